//! Every way in which a server can be sick, before its first answer and after it.

use super::*;

/// Each fault on every path, what a poll then says, and whether it lasts until the poll's end.
const FAULTS: &[(Fault, &str, &str, bool)] = &[
    (Fault::Hang, "timeout", "timeout", true),
    (Fault::HangInBody, "timeout", "timeout", true),
    (Fault::Drip, "timeout", "timeout", true),
    (Fault::Status(500), "bad-answer", "bad-answer", false),
    (Fault::Status(503), "bad-answer", "bad-answer", false),
    (Fault::Status(404), "bad-answer", "bad-answer", false),
    (Fault::Status(201), "bad-answer", "bad-answer", false),
    (Fault::Status(204), "bad-answer", "bad-answer", false),
    (Fault::Garbage, "bad-answer", "bad-answer", false),
    (Fault::Empty, "bad-answer", "bad-answer", false),
    (Fault::Null, "bad-answer", "bad-answer", false),
    (Fault::Half, "bad-answer", "bad-answer", false),
    (Fault::HalfChunked, "bad-answer", "bad-answer", false),
    (Fault::CutBody, "bad-answer", "bad-answer", false),
    (Fault::NotHttp, "bad-answer", "bad-answer", false),
    (Fault::Huge, "bad-answer", "bad-answer", false),
    (Fault::Endless, "bad-answer", "bad-answer", false),
    (Fault::EndlessHeaders, "bad-answer", "bad-answer", false),
    (Fault::GzipBomb, "bad-answer", "bad-answer", false),
    (Fault::Redirect(301), "bad-answer", "bad-answer", false),
    (Fault::Redirect(307), "bad-answer", "bad-answer", false),
    (Fault::Reset, "unreachable", "unreachable", false),
    (Fault::Close, "unreachable", "unreachable", false),
    (Fault::Status(401), "admin-unauthorized", "admin-unauthorized", false),
    (Fault::Status(403), "admin-unauthorized", "forbidden", false),
    (Fault::Echo(500), "bad-answer", "bad-answer", false),
    (Fault::Echo(401), "admin-unauthorized", "admin-unauthorized", false),
    (Fault::Echo(200), "bad-answer", "bad-answer", false),
    (Fault::EchoBody, "bad-answer", "bad-answer", false),
];

async fn suffers(fault: Fault, before: &str, after: &str, impatient: &HttpClient, patient: &HttpClient) {
    let trap = Server::start().await;
    let mut bed = Bed::with_client(impatient.clone()).await;
    bed.server.lock().redirect_to = trap.base.to_string();

    bed.server.fail("/", fault);
    let first = bed.poll().await.expect_err("no first poll");
    assert_eq!(first.category(), before, "{fault:?} before the first answer: {first}");
    assert_eq!(bed.vault.writes(), 0, "{fault:?}: no account, no Secret");

    bed.server.heal();
    bed.http = patient.clone();
    bed.poll().await.unwrap_or_else(|error| panic!("{fault:?} is over: {error}"));
    let writes = bed.vault.writes();

    bed.server.fail("/", fault);
    bed.http = impatient.clone();
    let begun = Instant::now();
    let error = bed.poll().await.expect_err("no poll");
    assert_eq!(error.category(), after, "{fault:?} after an answer: {error}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{fault:?} took {:?}", begun.elapsed());
    let again = bed.poll().await.expect_err("no poll").to_string();
    if after == "bad-answer" {
        assert_eq!(again, error.to_string(), "{fault:?}: the same failure has the same text");
    }
    assert_eq!(bed.vault.writes(), writes, "{fault:?}: nothing changed");

    bed.server.heal();
    bed.http = patient.clone();
    let poll = bed.poll().await.unwrap_or_else(|error| panic!("{fault:?} is over: {error}"));
    assert_eq!(poll.adapters.len(), 2);
    assert!(trap.take_events().is_empty(), "{fault:?} led elsewhere");
}

#[tokio::test]
async fn every_fault_is_told_by_its_category_and_survived() {
    let (impatient, patient) = (client(Duration::from_secs(1)), client(Duration::from_secs(30)));
    let all = FAULTS.iter().map(|(fault, before, after, lasts)| {
        suffers(*fault, before, after, if *lasts { &impatient } else { &patient }, &patient)
    });
    futures::future::join_all(all).await;
}

#[tokio::test]
async fn a_slow_answer_within_the_polls_time_is_an_answer() {
    let mut bed = Bed::new().await;
    bed.server.fail("/", Fault::Slow);
    assert_eq!(bed.poll().await.expect("a poll").adapters.len(), 2);
}

#[tokio::test]
async fn the_time_is_that_of_the_whole_poll_and_not_of_each_request() {
    let mut bed = Bed::with_timeout(Duration::from_millis(130)).await;
    bed.server.fail("/", Fault::Slow);
    let error = bed.poll().await.expect_err("four requests of 50 ms do not fit");
    assert_eq!(error.category(), "timeout");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let mut bed = Bed::new().await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    bed.server.base = Url::parse(&format!("http://{address}")).expect("a URL");
    let error = bed.poll().await.expect_err("no poll");
    assert_eq!(error.category(), "unreachable");
    assert!(error.to_string().contains("Connection refused"), "{error}");
    assert_eq!(bed.vault.writes(), 0);
}

#[tokio::test]
async fn an_empty_list_is_an_observation() {
    let mut bed = Bed::logged_in().await;
    bed.server.lock().adapters = serde_json::json!([]);
    assert_eq!(bed.poll().await.expect("a poll").adapters, []);
}

#[tokio::test]
async fn an_answer_of_an_unknown_shape_is_no_observation() {
    let mut bed = Bed::logged_in().await;
    let nfs = serde_json::json!({ "type": "nfs", "enabled": true, "running": true, "port": 1 });
    bed.server.lock().adapters = serde_json::json!([nfs, nfs]);
    let error = bed.poll().await.expect_err("no poll");
    assert_eq!(error.to_string(), "listing the adapters: adapter type \"nfs\" is listed twice");
    assert_eq!(bed.events(), [LIST]);
}
