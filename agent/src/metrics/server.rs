//! Answers `GET /metrics`.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{Scrapes, exposition};
use crate::{
    http::{Address, Answer, Bounds, Listener, serve, text},
    settings::MetricsSettings,
    workload::memory::Machine,
};

/// A scraper asks every few seconds, on one connection or a new one each time.
const BOUNDS: Bounds = Bounds { connections: 4, head: 8192, buffer: 8192, patience: Duration::from_secs(60) };
/// Between two attempts to listen.
const LISTEN_AGAIN: Duration = Duration::from_secs(30);
/// A driver that does not answer for so long is busy with something else.
const ANSWER: Duration = Duration::from_secs(10);

/// The server, to be spawned on the thread of the driver, and what it asks.
pub fn server(settings: &MetricsSettings) -> (impl Future<Output = ()> + use<>, Scrapes) {
    let address = match settings {
        MetricsSettings::Loopback(address) => Address::Loopback(*address),
        MetricsSettings::Unix(path) => Address::Unix(path.clone()),
    };
    let (asks, scrapes) = mpsc::channel(1);
    (run(address, Rc::new(asks)), scrapes)
}

type Asks = Rc<mpsc::Sender<super::Scrape>>;

async fn run(address: Address, asks: Asks) {
    loop {
        match Listener::bind(&address).await {
            Ok(listener) => {
                tracing::info!(%address, "metrics can be scraped");
                serve_on(listener, asks.clone()).await;
            }
            Err(error) => tracing::warn!(%error, "metrics cannot be scraped; it is tried again"),
        }
        sleep(LISTEN_AGAIN).await;
    }
}

async fn serve_on(listener: Listener, asks: Asks) {
    serve(listener, BOUNDS, move |request| answer(request, asks.clone())).await;
}

async fn answer(request: Request<Incoming>, asks: Asks) -> Answer {
    if request.uri().path() != "/metrics" {
        return text(StatusCode::NOT_FOUND, "there is /metrics\n");
    }
    if request.method() != Method::GET {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "ask with GET\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return answer;
    }
    let figures = async {
        let (ask, figures) = oneshot::channel();
        asks.send(ask).await.ok()?;
        figures.await.ok()
    };
    let Ok(Some(figures)) = timeout(ANSWER, figures).await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the agent is busy or ends\n");
    };
    match exposition::text(*figures, &Machine) {
        Ok(words) => {
            let mut answer: Response<Full<Bytes>> = text(StatusCode::OK, words);
            let form = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            answer.headers_mut().insert(CONTENT_TYPE, form);
            answer
        }
        Err(error) => {
            tracing::error!(%error, "metrics have no text form");
            text(StatusCode::INTERNAL_SERVER_ERROR, "metrics have no text form\n")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::net::SocketAddr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        task::LocalSet,
    };

    use super::*;
    use crate::metrics::Figures;

    /// What a server answers to these requests, whose driver has these figures.
    pub(in crate::metrics) async fn asked(figures: Figures, requests: &[&str]) -> Vec<String> {
        let listener = Listener::bind(&Address::Loopback(SocketAddr::from(([127, 0, 0, 1], 0)))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asks, mut scrapes) = mpsc::channel::<super::super::Scrape>(1);
        let driver = async {
            while let Some(scrape) = scrapes.recv().await {
                let _ = scrape.send(Box::new(figures.clone()));
            }
        };
        let client = async {
            let mut answers = Vec::new();
            for request in requests {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                answers.push(answer);
            }
            answers
        };
        let served = serve_on(listener, Rc::new(asks));
        LocalSet::new()
            .run_until(async {
                tokio::select! {
                    () = served => unreachable!(),
                    () = driver => unreachable!(),
                    answers = client => answers,
                }
            })
            .await
    }

    #[tokio::test]
    async fn answers_what_is_asked_and_nothing_else() {
        let asked = asked(Figures::default(), &["GET /metrics", "POST /metrics", "GET /", "GET /metrics?x=1"]).await;
        for (answer, wanted) in asked.iter().zip(["200 OK", "405", "404", "200 OK"]) {
            assert!(answer.starts_with(&format!("HTTP/1.1 {wanted}")), "{answer}");
        }
        assert!(asked[0].contains("application/openmetrics-text; version=1.0.0") && asked[0].ends_with("# EOF\n"));
    }
}
