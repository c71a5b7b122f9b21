//! The stand-in through its port: every mode as a client meets it, and what a test does to a server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{ADAPTERS, Caller, LOGIN, Mode, REFRESH, Record, Role, Scope, ServerHandle, StandIn};

const SOON: Duration = Duration::from_secs(5);

struct Bed {
    stand_in: StandIn,
    server: ServerHandle,
    client: Client,
}

async fn bed() -> Bed {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let stand_in = StandIn::start().await.unwrap();
    let server = stand_in.server("team", "files");
    server.set_admin("admin", "admin-password");
    server.create_user("k8s-operator", "operator-password", Role::Operator);
    let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(2 * SOON).build().unwrap();
    Bed { stand_in, server, client }
}

impl Bed {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.stand_in.url("team", "files"))
    }

    async fn post(&self, path: &str, body: Value) -> reqwest::Result<Response> {
        self.client.post(self.url(path)).json(&body).send().await
    }

    async fn log_in(&self, username: &str, password: &str) -> reqwest::Result<Response> {
        self.post(LOGIN, json!({"username": username, "password": password})).await
    }

    async fn session(&self) -> Value {
        self.log_in("k8s-operator", "operator-password").await.unwrap().json().await.unwrap()
    }

    async fn token(&self) -> String {
        self.session().await["access_token"].as_str().unwrap().to_owned()
    }

    async fn get(&self, path: &str, token: &str) -> reqwest::Result<Response> {
        self.client.get(self.url(path)).bearer_auth(token).send().await
    }

    async fn poll(&self, token: &str) -> reqwest::Result<Response> {
        self.get(ADAPTERS, token).await
    }

    /// The answer to a poll under a mode, read to its end.
    async fn poll_under(&self, mode: Mode) -> reqwest::Result<(StatusCode, String)> {
        let token = self.token().await;
        self.server.set_mode(mode, Scope::AdaptersList);
        let response = self.poll(&token).await?;
        Ok((response.status(), response.text().await?))
    }
}

/// Adapters of a list: type, running, port.
async fn list(response: reqwest::Result<Response>) -> Vec<(String, bool, u64)> {
    let adapters: Vec<Value> = response.unwrap().json().await.unwrap();
    let adapter = |adapter: Value| {
        let kind = adapter["type"].as_str().unwrap().to_owned();
        (kind, adapter["running"].as_bool().unwrap(), adapter["port"].as_u64().unwrap())
    };
    adapters.into_iter().map(adapter).collect()
}

fn has_source<E: std::error::Error + 'static>(error: &reqwest::Error, matches: impl Fn(&E) -> bool) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.downcast_ref::<E>().is_some_and(&matches) {
            return true;
        }
        source = error.source();
    }
    false
}

#[tokio::test]
async fn hang_answers_nothing_and_ends_when_the_client_gives_up() {
    let bed = bed().await;
    let token = bed.token().await;
    bed.server.set_mode(Mode::Hang, Scope::AdaptersList);
    let client_gives_up = async {
        bed.server.wait_for(|log| log.iter().any(Record::is_poll), SOON).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    tokio::select! {
        answer = bed.poll(&token) => panic!("answered: {answer:?}"),
        () = client_gives_up => {}
    }
    bed.server.wait_for(|log| log.iter().all(|request| request.ended.is_some()), SOON).await.unwrap();
    assert_eq!(bed.server.polls()[0].status, None);
    assert_eq!(bed.server.polls_in_flight(), 0);
    // Other scopes and other servers are as ever.
    assert_eq!(bed.get("/api/v1/auth/me", &token).await.unwrap().status(), 200);
    let other = format!("{}/health", bed.stand_in.url("team", "other"));
    assert_eq!(bed.client.get(other).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_restart_resets_what_hangs() {
    let bed = bed().await;
    let token = bed.token().await;
    bed.server.set_mode(Mode::Hang, Scope::AdaptersList);
    bed.server.set_start_delay(Duration::from_hours(1));
    let restart = async {
        bed.server.wait_for(|log| log.iter().any(Record::is_poll), SOON).await.unwrap();
        bed.server.restart();
    };
    let (asked, ()) = tokio::join!(tokio::time::timeout(SOON, bed.poll(&token)), restart);
    assert!(asked.unwrap().is_err());
    assert!(bed.server.adapters().iter().all(|adapter| adapter.enabled && !adapter.running));
}

#[tokio::test]
async fn a_status_comes_with_a_problem_document() {
    let bed = bed().await;
    let token = bed.token().await;
    bed.server.set_mode(Mode::Status(503), Scope::AdaptersList);
    let response = bed.poll(&token).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!((problem["status"].as_u64(), problem["title"].as_str()), (Some(503), Some("Service Unavailable")));
    assert_eq!(bed.server.polls()[0].status, Some(503));
}

#[tokio::test]
async fn bodies_that_are_no_list_come_with_200_and_the_type_of_json() {
    let bed = bed().await;
    let token = bed.token().await;
    for mode in [Mode::Garbage, Mode::EmptyBody, Mode::Null, Mode::UnknownShape, Mode::DeepNesting] {
        bed.server.set_mode(mode.clone(), Scope::AdaptersList);
        let response = bed.poll(&token).await.unwrap();
        assert_eq!(response.status(), 200, "{mode:?}");
        assert_eq!(response.headers()["content-type"], "application/json", "{mode:?}");
        let body = response.text().await.unwrap();
        let parsed: Result<Value, _> = serde_json::from_str(&body);
        match mode {
            Mode::Garbage => assert!(parsed.is_err() && !body.is_empty()),
            Mode::EmptyBody => assert_eq!(body, ""),
            Mode::Null => assert_eq!(body, "null"),
            Mode::UnknownShape => assert!(parsed.unwrap().is_object()),
            _ => {
                assert!(parsed.unwrap_err().to_string().contains("recursion limit"));
                assert_eq!((body.matches('[').count(), body.matches(']').count()), (100_000, 100_000));
            }
        }
    }
}

#[tokio::test]
async fn half_a_body_ends_before_the_length_that_it_announced() {
    let bed = bed().await;
    let token = bed.token().await;
    bed.server.set_mode(Mode::HalfBody, Scope::AdaptersList);
    let mut response = bed.poll(&token).await.unwrap();
    let length = response.content_length().unwrap();
    let mut received = Vec::new();
    let error = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => received.extend_from_slice(&chunk),
            Ok(None) => panic!("the body ended as if it were whole"),
            Err(error) => break error,
        }
    };
    assert!(!error.is_timeout(), "{error:?}");
    assert_eq!(received.len() as u64, length / 2);
    assert!(received.starts_with(b"[{"));
}

#[tokio::test]
async fn half_an_answer_has_done_what_was_asked() {
    let bed = bed().await;
    let admin: Value = bed.log_in("admin", "admin-password").await.unwrap().json().await.unwrap();
    bed.server.set_mode_for(Mode::HalfBody, Scope::Users, 1);
    let body = json!({"username": "second", "password": "second-password", "role": "operator"});
    let request = bed.client.post(bed.url("/api/v1/users")).bearer_auth(admin["access_token"].as_str().unwrap());
    let response = request.json(&body).send().await.unwrap();
    assert!(!response.bytes().await.unwrap_err().is_timeout());
    assert!(bed.server.users().iter().any(|user| user.username == "second"));
}

#[tokio::test]
async fn a_reset_is_a_reset_and_not_a_close() {
    let bed = bed().await;
    bed.server.set_mode_for(Mode::Reset, Scope::All, 1);
    let mut stream = TcpStream::connect(bed.stand_in.address()).await.unwrap();
    stream.write_all(b"GET /team/files/health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let error = stream.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(bed.server.requests()[0].status, None);

    bed.server.refuse_connections(true);
    let error = bed.log_in("admin", "admin-password").await.unwrap_err();
    assert!(has_source(&error, |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset), "{error:?}");
    bed.server.heal();
    assert_eq!(bed.log_in("admin", "admin-password").await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_refused_token_and_a_role_that_may_not_are_told_as_the_real_server_tells_them() {
    let bed = bed().await;
    let unauthorized = bed.poll_under(Mode::Unauthorized).await.unwrap();
    assert_eq!(unauthorized, (StatusCode::UNAUTHORIZED, "Invalid or expired token\n".to_owned()));
    let forbidden = bed.poll_under(Mode::Forbidden).await.unwrap();
    assert_eq!(forbidden, (StatusCode::FORBIDDEN, "Admin access required\n".to_owned()));
}

#[tokio::test]
async fn slow_is_the_real_answer_later() {
    let bed = bed().await;
    let token = bed.token().await;
    let delay = Duration::from_millis(250);
    bed.server.set_mode(Mode::Slow(delay), Scope::AdaptersList);
    let begun = Instant::now();
    assert_eq!(list(bed.poll(&token).await).await.len(), 2);
    assert!(begun.elapsed() >= delay);
    let poll = &bed.server.polls()[0];
    assert!(poll.ended.unwrap() - poll.at >= delay);
}

#[tokio::test]
async fn a_redirect_points_where_it_was_told() {
    let bed = bed().await;
    let token = bed.token().await;
    let elsewhere = bed.stand_in.url("team", "elsewhere");
    bed.server.set_mode(Mode::Redirect(elsewhere.clone()), Scope::AdaptersList);
    let response = bed.poll(&token).await.unwrap();
    assert_eq!(response.status(), 307);
    assert_eq!(response.headers()["location"], elsewhere.as_str());
}

#[tokio::test]
async fn a_huge_body_is_an_empty_list_of_the_length_that_was_asked_for() {
    let bed = bed().await;
    for length in [2, 3, 16 * 1024 + 2, 3_000_001] {
        let (status, body) = bed.poll_under(Mode::Huge(length)).await.unwrap();
        assert_eq!((status, body.len()), (StatusCode::OK, length));
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!([]));
    }
}

#[tokio::test]
async fn an_endless_body_goes_on_until_the_client_stops_reading() {
    let bed = bed().await;
    let token = bed.token().await;
    bed.server.set_mode(Mode::Endless, Scope::AdaptersList);
    let mut response = bed.poll(&token).await.unwrap();
    assert_eq!(response.content_length(), None);
    let mut received = 0;
    while received < 200_000 {
        received += response.chunk().await.unwrap().expect("it ended").len();
    }
    assert_eq!(bed.server.polls_in_flight(), 1);
    drop(response);
    bed.server.wait_for(|log| log.iter().all(|request| request.ended.is_some()), SOON).await.unwrap();
}

#[tokio::test]
async fn a_duplicate_type_is_in_the_list_twice() {
    let bed = bed().await;
    let token = bed.token().await;
    bed.server.set_mode(Mode::DuplicateType, Scope::All);
    let adapters = list(bed.poll(&token).await).await;
    let expected = [("nfs", true, 12049), ("smb", true, 1445), ("nfs", false, 12050)];
    assert_eq!(adapters, expected.map(|(kind, running, port)| (kind.to_owned(), running, port)));
    assert_eq!(bed.get("/api/v1/auth/me", &token).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_gzip_bomb_says_that_it_is_gzip() {
    let bed = bed().await;
    let token = bed.token().await;
    bed.server.set_mode(Mode::GzipBomb, Scope::AdaptersList);
    let response = bed.poll(&token).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.bytes().await.unwrap(), super::body::gzip_bomb());
}

#[tokio::test]
async fn a_token_expires_and_the_refresh_token_gives_a_new_one() {
    let bed = bed().await;
    assert_eq!(bed.poll(&bed.token().await).await.unwrap().status(), 200);
    let lifetime = Duration::from_millis(50);
    bed.server.set_token_lifetime(lifetime);
    let session = bed.session().await;
    let token = session["access_token"].as_str().unwrap();
    tokio::time::sleep(lifetime).await;
    let expired = bed.poll(token).await.unwrap();
    assert_eq!(
        (expired.status(), expired.text().await.unwrap().as_str()),
        (StatusCode::UNAUTHORIZED, "Invalid or expired token\n")
    );
    bed.server.set_token_lifetime(Duration::from_mins(1));
    let refresh = json!({"refresh_token": session["refresh_token"]});
    let renewed: Value = bed.post(REFRESH, refresh.clone()).await.unwrap().json().await.unwrap();
    assert_eq!(bed.poll(renewed["access_token"].as_str().unwrap()).await.unwrap().status(), 200);
    // An account that is gone, and one that was made again under its name, cannot refresh.
    bed.server.delete_user("k8s-operator");
    assert_eq!(bed.post(REFRESH, refresh.clone()).await.unwrap().status(), 401);
    bed.server.create_user("k8s-operator", "operator-password", Role::Operator);
    assert_eq!(bed.post(REFRESH, refresh).await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_token_outlives_its_user_and_its_database_but_not_its_key() {
    let bed = bed().await;
    let token = bed.token().await;
    bed.server.delete_user("k8s-operator");
    assert_eq!(bed.poll(&token).await.unwrap().status(), 200);
    bed.server.lose_database();
    assert_eq!(bed.poll(&token).await.unwrap().status(), 200);
    assert_eq!(bed.log_in("k8s-operator", "operator-password").await.unwrap().status(), 401);
    assert_eq!(bed.log_in("admin", "admin-password").await.unwrap().status(), 200);
    bed.server.revoke_tokens();
    assert_eq!(bed.poll(&token).await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_move_drains_and_then_runs_on_its_new_port() {
    let bed = bed().await;
    let token = bed.token().await;
    let smb = async || list(bed.poll(&token).await).await.pop().unwrap();
    bed.server.move_adapter("smb", 2445, Duration::from_hours(1));
    assert_eq!(smb().await, ("smb".to_owned(), false, 2445));
    assert!(bed.server.adapters()[1].enabled);

    let (drain, begun) = (Duration::from_millis(50), Instant::now());
    bed.server.move_adapter("smb", 3445, drain);
    while smb().await != ("smb".to_owned(), true, 3445) {
        assert!(begun.elapsed() < SOON, "it drains for ever");
    }
    assert!(begun.elapsed() >= drain);
}

#[tokio::test]
async fn the_admin_source_is_asked_at_the_first_login_and_after_the_database_was_lost() {
    let bed = bed().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    bed.stand_in.set_admin_source(move |namespace, name| {
        let time = counter.fetch_add(1, Ordering::Relaxed);
        async move {
            // At first there is no Secret yet; the password is another one each time.
            (time > 0).then(|| ("admin".to_owned(), format!("{namespace}-{name}-password-{time}")))
        }
    });
    let lazy = bed.stand_in.url("team", "lazy");
    let log_in = async |password: &str| {
        let body = json!({"username": "admin", "password": password});
        bed.client.post(format!("{lazy}{LOGIN}")).json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(log_in("team-lazy-password-1").await, 401);
    assert_eq!(log_in("team-lazy-password-1").await, 200);
    assert_eq!(log_in("team-lazy-password-2").await, 401);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    bed.stand_in.server("team", "lazy").lose_database();
    assert_eq!(log_in("team-lazy-password-2").await, 200);
    assert_eq!(log_in("team-lazy-password-1").await, 401);
}

#[tokio::test]
async fn the_log_says_who_asked_and_shows_polls_that_overlap() {
    let bed = bed().await;
    let token = bed.token().await;
    bed.server.clear_requests();
    let traced = bed.client.get(bed.url(ADAPTERS)).bearer_auth(&token).header("traceparent", "00-1-2-01").send();
    traced.await.unwrap();
    bed.client.get(bed.url(ADAPTERS)).send().await.unwrap();
    bed.poll("garbage").await.unwrap();
    let seen: Vec<_> =
        bed.server.polls().into_iter().map(|poll| (poll.caller, poll.status, poll.traceparent)).collect();
    let traced = (Caller::Operator, Some(200), Some("00-1-2-01".to_owned()));
    assert_eq!(seen, [traced, (Caller::None, Some(401), None), (Caller::Other, Some(401), None)]);
    assert!(!format!("{:?}", bed.server.requests()).contains(&token));
    assert_eq!(bed.server.most_polls_in_flight(), 1);

    bed.server.set_mode(Mode::Hang, Scope::AdaptersList);
    let two_polls = |log: &[Record]| log.iter().filter(|poll| poll.ended.is_none()).count() == 2;
    tokio::select! {
        _ = async { tokio::join!(bed.poll(&token), bed.poll(&token)) } => panic!("answered"),
        waited = bed.server.wait_for(two_polls, SOON) => waited.unwrap(),
    }
    assert_eq!(bed.server.most_polls_in_flight(), 2);
}

#[tokio::test]
async fn wait_for_ends_with_the_condition_and_says_what_was_asked_when_it_does_not_come() {
    let bed = bed().await;
    let two_logins = |log: &[Record]| log.iter().filter(|request| request.is_login()).count() == 2;
    let log_in = async {
        bed.token().await;
        bed.token().await;
    };
    let (waited, ()) = tokio::join!(bed.server.wait_for(two_logins, SOON), log_in);
    waited.unwrap();
    let error = bed.server.wait_for(|_| false, Duration::from_millis(20)).await.unwrap_err().to_string();
    assert!(error.contains("POST /api/v1/auth/login by None: 200"), "{error}");
}

#[tokio::test]
async fn a_proxy_request_and_a_host_header_reach_the_server_of_that_name() {
    let bed = bed().await;
    let proxy = reqwest::Proxy::http(format!("http://{}", bed.stand_in.address())).unwrap();
    let client = Client::builder().proxy(proxy).build().unwrap();
    let url = "http://files-api.team.svc.cluster.local:8080/health/ready";
    assert_eq!(client.get(url).send().await.unwrap().status(), 200);
    let direct = bed.client.get(format!("http://{}/health", bed.stand_in.address()));
    let direct = direct.header("host", "files-api.team.svc.cluster.local").send().await.unwrap();
    assert_eq!(direct.status(), 200);
    let paths: Vec<_> = bed.server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/health/ready", "/health"]);
}

#[tokio::test]
async fn a_server_that_is_not_ready_says_so() {
    let bed = bed().await;
    bed.server.set_health(false);
    let ready = async || bed.client.get(bed.url("/health/ready")).send().await.unwrap().status();
    assert_eq!(ready().await, 503);
    bed.server.set_health(true);
    assert_eq!(ready().await, 200);
}

#[tokio::test]
async fn a_stand_in_that_is_dropped_takes_its_connections_along() {
    let Bed { stand_in, server, client } = bed().await;
    server.set_mode(Mode::Hang, Scope::All);
    let health = tokio::spawn(client.get(format!("{}/health", stand_in.url("team", "files"))).send());
    server.wait_for(|log| !log.is_empty(), SOON).await.unwrap();
    let address = stand_in.address();
    drop(stand_in);
    assert!(!health.await.unwrap().unwrap_err().is_timeout());
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}
