//! What an API that fails, hangs or is not asked does to a server's objects: nothing, and status says why.

use std::time::Duration;

use dittofs_testbed::cluster::resources;
use dittofs_testbed::dittofs::{Mode, Scope};
use dittofs_testbed::world::condition;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::look::{LATER, uid};
use crate::support::Bed;

const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];

/// A server, what its API does wrong to which requests, and the reason of `AdaptersDiscovered` before the first good
/// poll, and after one: whoever has a token is not asked to log in.
type Row = (&'static str, Mode, Scope, &'static str, &'static str);

const UNREACHABLE: &str = "APIUnreachable";
const BAD: &str = "BadAnswer";
const REFUSED: &str = "AuthenticationFailed";

fn table() -> Vec<Row> {
    use Scope::{AdaptersList, All};
    let list = |name, mode, reason| (name, mode, AdaptersList, reason, reason);
    vec![
        list("hang", Mode::Hang, UNREACHABLE),
        ("hang-all", Mode::Hang, All, UNREACHABLE, UNREACHABLE),
        list("slow", Mode::Slow(Duration::from_secs(15)), UNREACHABLE),
        list("endless", Mode::Endless, BAD),
        list("reset", Mode::Reset, UNREACHABLE),
        list("e500", Mode::Status(500), BAD),
        ("e500-all", Mode::Status(500), All, REFUSED, BAD),
        list("e503", Mode::Status(503), BAD),
        list("garbage", Mode::Garbage, BAD),
        ("garbage-all", Mode::Garbage, All, REFUSED, BAD),
        list("empty", Mode::EmptyBody, BAD),
        list("nothing", Mode::Null, BAD),
        list("half", Mode::HalfBody, BAD),
        list("redirect", Mode::Redirect("http://127.0.0.1:1/".to_owned()), BAD),
        list("huge", Mode::Huge(64 * 1024 * 1024), BAD),
        list("shape", Mode::UnknownShape, BAD),
        list("twice", Mode::DuplicateType, BAD),
        list("bomb", Mode::GzipBomb, BAD),
        list("deep", Mode::DeepNesting, BAD),
        list("e401", Mode::Unauthorized, REFUSED),
        ("e401-all", Mode::Unauthorized, All, REFUSED, REFUSED),
        list("e403", Mode::Forbidden, REFUSED),
    ]
}

/// Whether both conditions say what is wrong.
fn says_why(server: &Value, reason: &str) -> Result<(), String> {
    let discovered = condition(server, "AdaptersDiscovered").ok_or("no condition")?;
    let authenticated = condition(server, "Authenticated").ok_or("no condition")?;
    let let_in = if reason == BAD { "True" } else { "False" };
    let right = discovered["reason"] == reason && discovered["status"] == "False";
    if right && authenticated["status"] == let_in { Ok(()) } else { Err(format!("{discovered} {authenticated}")) }
}

impl Bed {
    /// Waits until every row's server says what is wrong, as the reason that `reason` picks has it.
    async fn all_say_why(&self, rows: &[Row], reason: impl Fn(&Row) -> &'static str) {
        let waits = rows.iter().map(|row| {
            let reason = reason(row);
            let what = format!("to say {reason}");
            async move {
                self.world
                    .wait_server(row.0, &what, LATER, |server| says_why(server, reason))
                    .await
                    .expect("it says why")
            }
        });
        join_all(waits).await;
    }

    async fn all_ready(&self, rows: &[Row]) {
        let waits = rows.iter().map(async |row| {
            self.world.wait_ready(row.0).await.expect("it recovers");
            self.wait_adapter_services(row.0, &BOTH).await;
        });
        join_all(waits).await;
    }
}

/// Everything of a server that an observation could have removed.
async fn objects(bed: &Bed, name: &str) -> Vec<(String, String, String)> {
    let mut objects = bed.world.services(name).await.expect("Services");
    objects.push(bed.set(name).await);
    let of = |object: &Value| {
        let ports = object["spec"]["template"]["spec"]["containers"][0]["ports"].to_string();
        (object["metadata"]["name"].to_string(), uid(object).to_owned(), format!("{} {ports}", object["spec"]["ports"]))
    };
    objects.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_a_full_valid_answer_removes_anything_and_every_failure_is_told_and_recovered_from() {
    let bed = Bed::new("poll-modes").await;
    let rows = table();
    let fail = |bed: &Bed| rows.iter().for_each(|row| bed.dittofs(row.0).set_mode(row.1.clone(), row.2));
    let heal = |bed: &Bed| {
        for row in &rows {
            bed.dittofs(row.0).heal();
            // What hangs is let go, as by a server that is started anew.
            bed.dittofs(row.0).set_start_delay(Duration::ZERO);
            bed.dittofs(row.0).restart();
        }
    };

    // Before the first answer: the server comes up, and no adapter Service is made.
    fail(&bed);
    for row in &rows {
        let spec = json!({"adapterDiscovery": {"pollingInterval": "1s"}});
        bed.world.apply_server(row.0, &spec).await.expect("the server is accepted");
    }
    bed.all_say_why(&rows, |row| row.3).await;
    assert!(bed.writes("services").iter().all(|entry| !entry.object.name.contains("-adapter-")));
    heal(&bed);
    bed.all_ready(&rows).await;

    // After it: everything stays.
    let mut before = Vec::new();
    for row in &rows {
        before.push(objects(&bed, row.0).await);
    }
    fail(&bed);
    bed.all_say_why(&rows, |row| row.4).await;
    for (row, before) in rows.iter().zip(&before) {
        assert_eq!(&objects(&bed, row.0).await, before, "{} while it fails", row.0);
    }

    // An operator that knows nothing yet touches nothing.
    let polled: Vec<usize> = rows.iter().map(|row| bed.dittofs(row.0).requests().len()).collect();
    bed.world.operator().restart().await.expect("another operator");
    bed.world.operator().wait_ready().await.expect("it starts");
    for (row, polled) in rows.iter().zip(polled) {
        let asked = |requests: &[dittofs_testbed::dittofs::Record]| {
            requests.iter().skip(polled).filter(|request| request.faulty && request.ended.is_some()).count() > 0
        };
        bed.dittofs(row.0).wait_for(asked, LATER).await.expect("it is polled");
    }
    bed.all_say_why(&rows, |row| row.4).await;
    for (row, before) in rows.iter().zip(&before) {
        assert_eq!(&objects(&bed, row.0).await, before, "{} after the operator's restart", row.0);
    }

    heal(&bed);
    bed.all_ready(&rows).await;
    for row in &rows {
        bed.dittofs(row.0).stop_adapter("smb");
    }
    join_all(rows.iter().map(|row| bed.wait_adapter_services(row.0, &[("nfs", 12049)]))).await;
    bed.finish(rows.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_no_replicas_is_not_polled_and_is_again_when_it_comes_back() {
    let bed = Bed::new("replicas").await;
    let spec = json!({"rollout": {"onSpecChange": "WhenNeeded"}});
    bed.ready_server("files", &spec).await;
    bed.ready_server("clock", &spec).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let service = uid(&bed.service("files-adapter-smb").await).to_owned();

    bed.patch_spec("files", &json!({"replicas": 0})).await;
    bed.world
        .wait_server("files", "to be stopped", LATER, |server| {
            let stopped = server["status"]["phase"] == "Stopped"
                && condition(server, "AdaptersDiscovered").is_some_and(|condition| condition["reason"] == "Stopped");
            if stopped { Ok(()) } else { Err(server["status"].to_string()) }
        })
        .await
        .expect("it stops");
    let polls = bed.dittofs("files").polls().len();
    bed.wait_polls("clock", 4).await;
    assert_eq!(bed.dittofs("files").polls().len(), polls, "it was polled");
    assert_eq!(uid(&bed.service("files-adapter-smb").await), service, "its Services stay");

    bed.patch_spec("files", &json!({"replicas": 1})).await;
    bed.world.wait_ready("files").await.expect("it comes back");
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &[("nfs", 12049)]).await;
    bed.finish(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_interval_takes_effect_without_waiting_out_the_longer_one() {
    let bed = Bed::new("interval").await;
    let spec = json!({"adapterDiscovery": {"pollingInterval": "1h"}, "rollout": {"onSpecChange": "WhenNeeded"}});
    bed.ready_server("files", &spec).await;
    bed.wait_adapter_services("files", &BOTH).await;
    bed.dittofs("files").stop_adapter("smb");
    bed.patch_spec("files", &json!({"adapterDiscovery": {"pollingInterval": "1s"}})).await;
    bed.wait_adapter_services("files", &[("nfs", 12049)]).await;
    bed.wait_polls("files", 3).await;
    // And back: the next poll is an hour away again, while another server's go on.
    bed.patch_spec("files", &json!({"adapterDiscovery": {"pollingInterval": "1h"}})).await;
    bed.ready_server("clock", &json!({})).await;
    bed.world.wait_ready("files").await.expect("the change is applied");
    let polls = bed.dittofs("files").polls().len();
    bed.wait_polls("clock", 3).await;
    assert_eq!(bed.dittofs("files").polls().len(), polls);
    assert_eq!(bed.dittofs("files").most_polls_in_flight(), 1, "two polls overlapped");
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_deleted_while_its_poll_hangs_and_the_poll_goes_with_it() {
    let bed = Bed::new("delete-hanging").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let dittofs = bed.dittofs("files");
    dittofs.set_mode(Mode::Hang, Scope::AdaptersList);
    bed.world
        .wait_until("a poll to hang", LATER, async || match dittofs.polls_in_flight() {
            0 => Err("none is under way".to_owned()),
            _ => Ok(()),
        })
        .await
        .expect("a poll hangs");
    bed.delete_server("files").await;
    bed.world
        .wait_until("the poll to be given up", LATER, async || match dittofs.polls_in_flight() {
            0 => Ok(()),
            _ => Err("it is still under way".to_owned()),
        })
        .await
        .expect("the poll goes");
    let last = dittofs.polls().pop().expect("a poll");
    let lasted = last.ended.expect("its end").duration_since(last.at);
    assert!(lasted < Duration::from_secs(10), "it was left to its timeout: {lasted:?}");
    for name in ["files-adapter-nfs", "files-adapter-smb", "files-api"] {
        bed.wait_gone(resources::SERVICES, name).await;
    }
    bed.wait_gone(resources::STATEFUL_SETS, "files").await;
    let polls = dittofs.polls().len();
    bed.ready_server("clock", &json!({})).await;
    bed.wait_polls("clock", 3).await;
    assert_eq!(dittofs.polls().len(), polls, "a server that is gone was polled");
    bed.finish(2).await;
}
