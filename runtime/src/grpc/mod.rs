//! The Open Inference Protocol over gRPC: the same models, checks and answers as over HTTP.
//!
//! Knows tenants and settings as [`crate::http`] does, and nothing of actors, plans or devices. Read in the order [`start`], `service`,
//! `infer`, `tensor`.

mod bound;
pub(crate) mod infer;
mod service;
mod tensor;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use futures::{Stream, StreamExt};
use migrator_protocol::grpc_inference_service_server::GrpcInferenceServiceServer;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataValue;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Code, Status};

use crate::http::{ApiError, AppState};
use bound::{Counted, Prompt};
use service::Service;

/// Requests of one connection that may be in work at once; more wait.
const STREAMS: u32 = 1024;
/// Largest headers of a call, bytes.
const HEADERS: u32 = 16 << 10;
/// Longest that a handshake may take, and after it the first bytes of HTTP/2.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once.
const HANDSHAKES: usize = 256;
/// A connection is asked for a sign of life this often, and closed when none comes for the second time.
const ALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// A running front; dropped, it goes on until its runtime ends.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    /// Takes no more connections or calls, and gives those in flight so long.
    pub async fn stop(self, drain: Duration) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(drain, self.ended).await;
        self.runtime.shutdown_background();
    }
}

/// Starts to listen, on threads of its own.
///
/// # Errors
/// When the address cannot be bound; the message names it.
pub fn start(state: Arc<AppState>, host: &str, port: u16, tls: Option<rustls::ServerConfig>) -> std::io::Result<Running> {
    let cannot = |error: std::io::Error| crate::http::cannot_listen(host, port, &error);
    let listener = std::net::TcpListener::bind((host, port)).map_err(cannot)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let threads = state.limits.workers.max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).thread_name("grpc").enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    let max_body = state.limits.max_body;
    let service = GrpcInferenceServiceServer::new(Service(Arc::clone(&state)));
    let service = service.max_decoding_message_size(max_body).max_encoding_message_size(usize::MAX);
    let packed = [CompressionEncoding::Gzip, CompressionEncoding::Deflate];
    let service = packed.into_iter().fold(service, |service, how| service.accept_compressed(how).send_compressed(how));
    let guard = runtime.enter();
    let incoming = bound::accepted(TcpListener::from_std(listener)?, state.limits.connections);
    drop(guard);
    let server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADERS)
        .http2_keepalive_interval(Some(ALIVE.0))
        .http2_keepalive_timeout(Some(ALIVE.1))
        .add_routes(Routes::new(service));
    let ended = runtime.spawn(async move {
        let until = async move {
            let _ = stopped.await;
        };
        let served = match tls {
            None => server.serve_with_incoming_shutdown(prompt(incoming), until).await,
            Some(tls) => server.serve_with_incoming_shutdown(prompt(secured(incoming, tls)), until).await,
        };
        if let Err(error) = served {
            tracing::error!(%error, "the gRPC front ended");
        }
    });
    Ok(Running { address, stop, ended, runtime })
}

/// Connections that have to begin soon.
fn prompt<S>(incoming: impl Stream<Item = std::io::Result<S>>) -> impl Stream<Item = std::io::Result<Prompt<S>>> {
    incoming.map(|stream| stream.map(|stream| Prompt::new(stream, HANDSHAKE)))
}

/// Connections after their handshakes, which wait for each other only beyond so many; those that fail are dropped.
fn secured(
    incoming: impl Stream<Item = std::io::Result<Counted>>,
    tls: rustls::ServerConfig,
) -> impl Stream<Item = std::io::Result<TlsStream<Counted>>> {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let handshakes = incoming.map(move |stream| {
        let acceptor = acceptor.clone();
        async move { tokio::time::timeout(HANDSHAKE, acceptor.accept(stream?)).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) }
    });
    handshakes.buffer_unordered(HANDSHAKES).filter_map(|secured| async { secured.ok().map(Ok) })
}

/// The same refusal as over HTTP, in gRPC's codes.
fn status(error: ApiError) -> Status {
    let code = match error.status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
        status if status.is_client_error() => Code::InvalidArgument,
        _ => Code::Internal,
    };
    let mut status = Status::new(code, error.message);
    if let Some(after) = error.retry_after {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        // What gRPC clients with a retry policy go by.
        status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from(ms));
    }
    status
}
