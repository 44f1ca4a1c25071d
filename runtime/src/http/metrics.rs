//! `/metrics` on its own port.

use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, web};
use metrics_exporter_prometheus::PrometheusHandle;

/// How often histograms are folded, so that they stay small when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts to listen; gives the server and the port it got. Runs the exporter's upkeep for as long as the system lives.
///
/// # Errors
/// When the address cannot be bound; the message names it.
pub fn start(handle: PrometheusHandle, host: &str, port: u16) -> std::io::Result<(Server, u16)> {
    metrics::describe_counter!("migrator_bad_requests_total", "requests that never reached their tenant, by status code");
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(UPKEEP);
        loop {
            timer.tick().await;
            upkeep.run_upkeep();
        }
    });
    let handle = web::Data::new(handle);
    let app = move || App::new().app_data(handle.clone()).route("/metrics", web::get().to(render));
    let server = HttpServer::new(app).workers(1).disable_signals();
    let server = server.bind((host, port)).map_err(|e| super::cannot_listen(host, port, &e))?;
    let port = server.addrs().first().map_or(port, std::net::SocketAddr::port);
    Ok((server.run(), port))
}

async fn render(handle: web::Data<PrometheusHandle>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(handle.render())
}
