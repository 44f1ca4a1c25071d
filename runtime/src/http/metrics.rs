//! `/metrics` on its own port.

use std::collections::BTreeSet;
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
        text = without(text, &state.tenants.gone());
        text.push_str(&statistic::series(state));
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}

/// The text without the series of tenants that have left: the recorder keeps every series for ever.
fn without(text: String, gone: &BTreeSet<String>) -> String {
    if gone.is_empty() {
        return text;
    }
    let labels: Vec<String> = gone.iter().map(|name| format!("tenant=\"{name}\"")).collect();
    let stays = |line: &&str| line.starts_with('#') || !labels.iter().any(|label| line.contains(label));
    text.split_inclusive('\n').filter(stays).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_has_left_has_no_series() {
        let text = "# TYPE x counter\nx{tenant=\"a\"} 1\nx{tenant=\"aa\",le=\"1\"} 2\ny 3\n".to_owned();
        assert_eq!(without(text.clone(), &BTreeSet::new()), text);
        let gone = BTreeSet::from(["a".to_owned()]);
        assert_eq!(without(text, &gone), "# TYPE x counter\nx{tenant=\"aa\",le=\"1\"} 2\ny 3\n");
    }
}
