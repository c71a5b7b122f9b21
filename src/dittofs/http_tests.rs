//! What the client does with its environment, each time in a process of its own: the environment belongs to all the
//! tests of this one.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

use super::*;
use crate::dittofs::url::endpoint;

const CHILD: &str = "DITTOFS_HTTP_TEST_URL";

/// The other side of the tests below: asks for `CHILD`'s URL and prints what came of it.
#[tokio::test]
#[ignore = "run by other tests, in a process with another environment"]
async fn ask_in_another_environment() {
    let url = std::env::var(CHILD).expect("the URL");
    assert!(matches!(HttpClient::new(HttpSettings::default()), Err(HttpClientError::NoTlsProvider)));
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the first provider");
    let client = match HttpClient::new(HttpSettings::default()) {
        Ok(client) => client,
        Err(error) => return println!("RESULT {error}"),
    };
    let call = Call {
        operation: Operation::ListAdapters,
        method: Method::GET,
        url: endpoint(&Url::parse(&url).expect("a URL"), &["api"]),
        bearer: None,
        body: None,
        secrets: &[],
    };
    match client.send(call, Deadline::after(Instant::now(), Duration::from_secs(20))).await {
        Ok(answer) => println!("RESULT {} {}", answer.status.as_u16(), String::from_utf8_lossy(&answer.body)),
        Err(error) => println!("RESULT {error}"),
    }
}

/// What the child prints for `url` with `environment`.
async fn ask(url: &str, environment: &[(&str, &str)]) -> String {
    let mut child = Command::new(std::env::current_exe().expect("this test's program"));
    child.args(["--ignored", "--exact", "--nocapture", "dittofs::http::tests::ask_in_another_environment"]);
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"] {
        child.env_remove(name);
    }
    let output = child.env(CHILD, url).envs(environment.iter().copied()).kill_on_drop(true).output().await;
    let output = output.expect("a child process");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let result = text.split("RESULT ").nth(1).and_then(|rest| rest.lines().next());
    result.unwrap_or_else(|| panic!("no result in {text} {}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

/// A server that answers with the first line of the request, and its URL.
async fn repeater() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = vec![0; 4096];
            let length = stream.read(&mut bytes).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let line = head.lines().next().unwrap_or_default();
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{line}", line.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used() {
    let proxy = repeater().await;
    let url = "http://files-api.team-a.svc.cluster.local:8080";
    let result = ask(url, &[("HTTP_PROXY", &proxy)]).await;
    assert_eq!(result, format!("200 GET {url}/api HTTP/1.1"));
}

#[tokio::test]
async fn no_proxy_is_honoured() {
    let server = repeater().await;
    let result = ask(&server, &[("HTTP_PROXY", "http://127.0.0.1:9"), ("NO_PROXY", "127.0.0.1")]).await;
    assert_eq!(result, "200 GET /api HTTP/1.1");
}

#[tokio::test]
async fn a_machine_without_ca_certificates_still_speaks_plain_http() {
    let server = repeater().await;
    let none = [("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/dev/null")];
    assert_eq!(ask(&server, &none).await, "200 GET /api HTTP/1.1");
}

#[tokio::test]
async fn a_request_ends_at_its_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let deadline = Deadline::after(Instant::now(), Duration::from_millis(20));
    assert!(deadline.bound(listener.accept()).await.is_none());
    assert_eq!(deadline.bound(std::future::ready(7)).await, Some(7), "what is ready needs no time");
}
