//! The operator is killed (SIGKILL) at each of its writes, once before the API server has seen it and once after the
//! answer went into the void. Started again it has to arrive where a run without a crash arrives, without another pod.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use dittofs_testbed::proxy::{Cut, Proxy};
use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};

use crate::snapshot::{assert_same, snapshot};
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
        let adapters = if self == Self::PortChange { "nfs" } else { "nfs, smb" };
        let rolled_out = if self == Self::PortChange { "False" } else { "True" };
        bed.world
            .wait_server(name, "to say what runs", SOON, |server| {
                let condition = dittofs_testbed::world::condition(server, "PortsRolledOut");
                let rolled = condition.is_some_and(|condition| condition["status"] == rolled_out);
                let credentials = server["status"]["activeAdapters"] == adapters;
                if rolled && credentials { Ok(()) } else { Err(server["status"].to_string()) }
            })
            .await
            .expect("the status follows");
    }
}

/// One run; the objects at its end, and how many writes the story took.
async fn run(story: Story, cut: Option<Cut>) -> (BTreeMap<String, Value>, usize, bool) {
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
        bed.dittofs("files").move_adapter("nfs", 12050, std::time::Duration::ZERO);
    } else {
        bed.world.apply_server("files", &spec).await.expect("the server is accepted");
    }
    let mut happened = false;
    if cut.is_some() {
        // Either the cut comes, or the story has fewer writes this time: both are the end of this part.
        let operator = bed.world.operator();
        tokio::select! {
            exit = operator.wait_exit(std::time::Duration::from_secs(60)) => happened = exit.is_some(),
            () = story.settle(&bed, "files") => happened = !operator.is_running(),
        }
        if happened {
            bed.world.operator().restart().await.expect("the operator starts again");
        } else {
            proxy.disarm();
        }
    }
    story.settle(&bed, "files").await;
    let writes = proxy.writes();
    let objects = snapshot(bed.world.namespace(), "files").await;
    bed.finish(1).await;
    (objects, writes, happened)
}

fn arm(proxy: &Proxy, bed: &Bed, cut: Cut) {
    let killer = bed.world.operator().killer();
    proxy.arm(cut, move |_| {
        killer();
        futures::future::ready(()).boxed()
    });
}

async fn every_write(story: Story, least: usize) {
    let (clean, writes, _) = run(story, None).await;
    assert!(writes >= least, "{writes} writes: the proxy saw too little");
    let cuts = (1..=writes).flat_map(|n| [Cut::BeforeWrite(n), Cut::AfterWrite(n)]);
    let results: Vec<_> = futures::stream::iter(cuts)
        .map(|cut| async move { (cut, AssertUnwindSafe(run(story, Some(cut))).catch_unwind().await) })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut missed = Vec::new();
    let mut failed = Vec::new();
    for (cut, result) in results {
        match result {
            Ok((objects, _, happened)) => {
                assert_same(&clean, &objects, &format!("{story:?}, {cut:?}"));
                if !happened {
                    missed.push(cut);
                }
            }
            // The panic itself was printed by the run.
            Err(_) => failed.push(cut),
        }
    }
    assert!(failed.is_empty(), "{story:?}: cut at {failed:?}");
    println!("{story:?}: {writes} writes, each cut twice; not reached: {missed:?}");
    // How many times the status is written is a matter of time; all other writes are the same in each run.
    let certain = least;
    let early = |cut: &Cut| matches!(cut, Cut::BeforeWrite(n) | Cut::AfterWrite(n) if *n <= certain);
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
