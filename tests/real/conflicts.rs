//! Somebody else writes the StatefulSet in the moment in which the operator does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dittofs_testbed::cluster::resources;
use dittofs_testbed::proxy::{Action, Proxy, Rule};
use http::Method;
use serde_json::json;

use crate::look::LATER;
use crate::support::Bed;

/// Writes another annotation into the StatefulSet just before each of the next `times` replaces of it.
fn interfere(bed: &Bed, proxy: &Proxy, label: &'static str, times: Option<usize>) -> Arc<AtomicUsize> {
    let namespace = bed.world.namespace().clone();
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let hook = Action::before(move |_| {
        let (namespace, count) = (namespace.clone(), Arc::clone(&count));
        Box::pin(async move {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let change = json!({"metadata": {"annotations": {format!("example.com/{label}-{number}"): "kept"}}});
            namespace.patch(resources::STATEFUL_SETS, "files", &change).await.expect("their write");
        })
    });
    let is_replace = |method: &Method, path: &str| {
        method == Method::PUT && path.split('?').next().is_some_and(|path| path.ends_with("/statefulsets/files"))
    };
    let rule = Rule::new(is_replace, hook);
    proxy.rule(match times {
        Some(times) => rule.times(times),
        None => rule,
    });
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_once_thrice_and_for_ever_keeps_what_the_other_wrote() {
    let mut bed = Bed::idle("conflict").await;
    let options = bed.options();
    let proxy = bed.world.start_operator_through_proxy(options).await.expect("the operator starts");
    bed.world.operator().wait_ready().await.expect("the operator is ready");
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &[("nfs", 12049), ("smb", 1445)]).await;
    let conflicts = || proxy.seen().iter().filter(|seen| seen.status == Some(409)).count();
    let theirs = async |label: &str, count: usize| {
        let annotations = bed.set("files").await["metadata"]["annotations"].clone();
        for number in 0..count {
            assert_eq!(annotations[format!("example.com/{label}-{number}")], "kept", "{annotations}");
        }
    };

    proxy.reset();
    interfere(&bed, &proxy, "once", Some(1));
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_ports("files", &[("nfs", 12049)]).await;
    assert_eq!(conflicts(), 1);
    theirs("once", 1).await;

    proxy.reset();
    proxy.clear_rules();
    interfere(&bed, &proxy, "thrice", Some(3));
    bed.dittofs("files").start_adapter("smb");
    bed.wait_adapter_ports("files", &[("nfs", 12049), ("smb", 1445)]).await;
    assert_eq!(conflicts(), 3);
    theirs("thrice", 3).await;
    assert!(bed.events("ReconcileFailed").await.is_empty(), "what a retry solves is no failure");

    proxy.clear_rules();
    let done = interfere(&bed, &proxy, "ever", None);
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_message("files", "Ready", "False", "StatefulSet files").await;
    bed.wait_event("ReconcileFailed", "StatefulSet files").await;
    assert!(done.load(Ordering::SeqCst) >= 5);
    // The Services do not wait for the StatefulSet.
    bed.wait_adapter_services("files", &[("nfs", 12049)]).await;
    proxy.clear_rules();
    bed.wait_adapter_ports("files", &[("nfs", 12049)]).await;
    bed.world.wait_ready("files").await.expect("it recovers");
    theirs("ever", done.load(Ordering::SeqCst)).await;
    bed.world
        .wait_until("the hold", LATER, async || {
            let set = bed.set("files").await;
            if crate::look::partition(&set) == 1 { Ok(()) } else { Err("not held".to_owned()) }
        })
        .await
        .expect("held");
    bed.finish(1).await;
}
