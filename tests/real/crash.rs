//! The operator is killed (SIGKILL) at each of its writes, once before the API server has seen it and once after the
//! answer went into the void. Started again it has to arrive where a run without a crash arrives, without another pod.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use dittofs_testbed::proxy::{Cut, Proxy};
use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;

use crate::snapshot::{Objects, snapshot};
use crate::support::{Bed, SOON};

/// Runs that are under way together.
const AT_ONCE: usize = 5;

/// What a run is made to do while it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// A new server becomes ready.
    FirstReconcile,
    /// One adapter stops and one moves.
    PortChange,
}

impl Story {
    async fn settle(self, bed: &Bed, name: &str) {
        let wanted: &[(&str, u64)] =
            if self == Self::PortChange { &[("nfs", 12050)] } else { &[("nfs", 12049), ("smb", 1445)] };
        bed.world.wait_ready(name).await.expect("the server becomes ready");
        bed.wait_adapter_services(name, wanted).await;
        bed.wait_adapter_ports(name, wanted).await;
        bed.wait_endpoints(name, wanted).await;
        let rolled_out = if self == Self::PortChange { "False" } else { "True" };
        bed.world
            .wait_server(name, "to say whether its ports are rolled out", SOON, |server| {
                let condition = dittofs_testbed::world::condition(server, "PortsRolledOut");
                let rolled = condition.is_some_and(|condition| condition["status"] == rolled_out);
                if rolled { Ok(()) } else { Err(server["status"].to_string()) }
            })
            .await
            .expect("the status follows");
    }
}

/// A run without a crash: the objects at its end, and how many writes the story took.
async fn clean_run(story: Story) -> (Objects, usize) {
    let (bed, proxy) = begin(story, None).await;
    story.settle(&bed, "files").await;
    let objects = snapshot(bed.world.namespace(), "files").await;
    let writes = proxy.writes();
    bed.finish(1).await;
    (objects, writes)
}

/// A run with a crash, which has to end with the objects of a clean one. Whether the crash came: the story may have had
/// fewer writes this time.
async fn cut_run(story: Story, cut: Cut, clean: &Objects) -> bool {
    let (bed, proxy) = begin(story, Some(cut)).await;
    let operator = bed.world.operator();
    let happened = tokio::select! {
        exit = operator.wait_exit(Duration::from_mins(1)) => exit.is_some(),
        () = story.settle(&bed, "files") => !operator.is_running(),
    };
    if happened {
        operator.restart().await.expect("the operator starts again");
    } else {
        proxy.disarm();
    }
    story.settle(&bed, "files").await;
    bed.wait_same(clean, "the objects of a clean run").await;
    bed.finish(1).await;
    happened
}

/// Starts an operator behind a proxy, arms the cut and begins the story.
async fn begin(story: Story, cut: Option<Cut>) -> (Bed, Proxy) {
    let mut bed = Bed::idle("crash").await;
    let options = bed.options();
    let proxy = bed.world.start_operator_through_proxy(options).await.expect("the operator starts");
    bed.world.operator().wait_ready().await.expect("the operator is ready");
    let spec = json!({"adapterDiscovery": {"pollingInterval": "1s"}});
    if story == Story::PortChange {
        bed.world.apply_server("files", &spec).await.expect("the server is accepted");
        Story::FirstReconcile.settle(&bed, "files").await;
    }
    proxy.reset();
    if let Some(cut) = cut {
        arm(&proxy, &bed, cut);
    }
    if story == Story::PortChange {
        bed.dittofs("files").stop_adapter("smb");
        bed.dittofs("files").move_adapter("nfs", 12050, Duration::ZERO);
    } else {
        bed.world.apply_server("files", &spec).await.expect("the server is accepted");
    }
    (bed, proxy)
}

fn arm(proxy: &Proxy, bed: &Bed, cut: Cut) {
    let killer = bed.world.operator().killer();
    proxy.arm(cut, move |_| {
        killer();
        futures::future::ready(()).boxed()
    });
}

async fn every_write(story: Story, least: usize) {
    let (clean, writes) = clean_run(story).await;
    assert!(writes >= least, "{writes} writes: the proxy saw too little");
    let cuts = (1..=writes).flat_map(|n| [Cut::BeforeWrite(n), Cut::AfterWrite(n)]);
    let clean = &clean;
    let results: Vec<_> = futures::stream::iter(cuts)
        .map(|cut| async move { (cut, AssertUnwindSafe(cut_run(story, cut, clean)).catch_unwind().await) })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    // The panics themselves were printed by the runs.
    let failed: Vec<_> = results.iter().filter(|(_, result)| result.is_err()).map(|(cut, _)| *cut).collect();
    assert!(failed.is_empty(), "{story:?}: cut at {failed:?}");
    let missed: Vec<_> =
        results.iter().filter(|(_, result)| matches!(result, Ok(false))).map(|(cut, _)| *cut).collect();
    println!("{story:?}: {writes} writes, each cut twice; not reached: {missed:?}");
    // How many times the status is written is a matter of time; all other writes are the same in each run.
    let early = |cut: &Cut| matches!(cut, Cut::BeforeWrite(n) | Cut::AfterWrite(n) if *n <= least);
    assert!(!missed.iter().any(early), "a cut that never came: {missed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_write_of_the_first_reconcile_it_arrives_where_a_clean_run_does() {
    // ConfigMap, two Secrets, StatefulSet, three static Services, credentials, two adapter Services.
    every_write(Story::FirstReconcile, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_write_of_a_port_change_it_arrives_where_a_clean_run_does() {
    // One Service deleted, one replaced, the StatefulSet.
    every_write(Story::PortChange, 3).await;
}
