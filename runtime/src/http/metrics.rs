//! `/metrics` on its own port.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, web};
use metrics_exporter_prometheus::PrometheusHandle;

use super::{AppState, statistic};

/// How often histograms are folded, so that they stay small when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts to listen; Triton's series are shown too when there is a state to read them from. Gives the server and the port it got. Runs the exporter's upkeep for as long as the system lives.
///
/// # Errors
/// When the address cannot be bound; the message names it.
pub fn start(handle: PrometheusHandle, state: Option<Arc<AppState>>, host: &str, port: u16) -> std::io::Result<(Server, u16)> {
    metrics::describe_counter!("migrator_bad_requests_total", "requests that never reached their tenant, by status code");
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(UPKEEP);
        loop {
            timer.tick().await;
            upkeep.run_upkeep();
        }
    });
    let handle = web::Data::new((handle, state));
    let app = move || App::new().app_data(handle.clone()).route("/metrics", web::get().to(render));
    let server = HttpServer::new(app).workers(1).disable_signals();
    let server = server.bind((host, port)).map_err(|e| super::cannot_listen(host, port, &e))?;
    let port = server.addrs().first().map_or(port, std::net::SocketAddr::port);
    Ok((server.run(), port))
}

async fn render(from: web::Data<(PrometheusHandle, Option<Arc<AppState>>)>) -> HttpResponse {
    let (handle, state) = &**from;
    let mut text = handle.render();
    if let Some(state) = state {
        text.push_str(&statistic::series(state));
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}
