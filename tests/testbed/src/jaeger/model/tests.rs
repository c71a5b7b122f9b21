//! The model on a trace that a real Jaeger answered (tests/backends.rs recorded it), and on broken ones.

use super::*;
use crate::jaeger::{Style, render};
use serde_json::json;

fn recorded() -> Trace {
    Trace::from_json(&serde_json::from_str(include_str!("../fixture.json")).unwrap()).unwrap()
}

#[test]
fn a_recorded_trace_is_read() {
    let trace = recorded();
    let one = |name: &str| trace.spans.iter().find(|span| span.name == name).unwrap();
    let root = one("poll adapters");
    assert_eq!(
        (root.parent.as_deref(), root.service.as_str(), root.kind.as_str()),
        (None, "dittofs-operator", "internal")
    );
    assert_eq!((root.duration_us, root.tag("dittofs.cause").as_deref()), (72_000, Some("poll")));
    let reconcile = one("reconcile services");
    assert_eq!(reconcile.parent.as_ref(), Some(&root.span_id));
    let earlier =
        Link { trace_id: "00000000000000000000000000000bad".to_owned(), span_id: "00000000000000fe".to_owned() };
    assert_eq!(reconcile.links, [earlier]);
    let event = &one("reconcile ports").events[0];
    assert_eq!((event.name.as_str(), event.at_us - root.start_us), ("conflict", 40_000));
    assert_eq!(
        event.fields,
        BTreeMap::from([("attempt".to_owned(), json!(1)), ("k8s.resource.version".to_owned(), json!("812"))])
    );
    let errors: Vec<_> = trace.named("kube PUT statefulsets").map(|span| span.error.as_deref()).collect();
    assert_eq!(errors, [Some("the object has been modified"), None]);
    assert_eq!(one("dittofs GET /api/v1/adapters").tags["http.response.status_code"], json!(200));
    trace.check_shape().unwrap();
}

#[test]
fn the_tree_is_sorted_by_start() {
    fn shape(nodes: &[Node<'_>]) -> Vec<Value> {
        nodes.iter().map(|node| json!([node.span.name, shape(&node.children)])).collect()
    }
    let mut trace = recorded();
    trace.spans.reverse();
    assert_eq!(
        shape(&trace.tree()),
        [json!([
            "poll adapters",
            [
                ["dittofs GET /api/v1/adapters", []],
                ["reconcile services", [["kube DELETE services", []]]],
                ["reconcile ports", [["kube PUT statefulsets", []], ["kube PUT statefulsets", []]]],
            ]
        ])]
    );
}

#[test]
fn each_broken_shape_is_named() {
    type Damage = fn(&mut Trace);
    let damages: [(Damage, &str); 8] = [
        (|trace| trace.spans.clear(), "no span"),
        (|trace| trace.spans[1].parent = None, "more than one root"),
        (|trace| trace.spans[1].parent = Some("beef".to_owned()), "parent beef"),
        (|trace| trace.spans[1].start_us = trace.spans[0].start_us - 1_001, "before its parent"),
        (|trace| trace.spans[1].service = "other".to_owned(), "service other"),
        (|trace| trace.spans[1].trace_id = "other".to_owned(), "trace other"),
        (|trace| trace.spans[1].span_id = trace.spans[0].span_id.clone(), "same id"),
        (
            |trace| {
                // Its own ancestor; a root is still there.
                let id = trace.spans[6].span_id.clone();
                trace.spans[6].parent = Some(id);
            },
            "their own ancestors",
        ),
    ];
    for (damage, reason) in damages {
        let mut trace = recorded();
        damage(&mut trace);
        let said = trace.check_shape().unwrap_err();
        assert!(said.contains(reason), "{reason}: {said}");
        render(&trace, Style::Plain);
    }
    let mut close = recorded();
    close.spans[1].start_us = close.spans[0].start_us - 1_000;
    close.check_shape().unwrap();
}

#[test]
fn the_rendering_is_the_golden_one_and_100_columns_wide() {
    let plain = render(&recorded(), Style::Plain);
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/jaeger/fixture.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &plain).unwrap();
    }
    assert_eq!(plain, std::fs::read_to_string(&golden).unwrap(), "UPDATE_GOLDEN=1 renews it");
    assert!(plain.lines().all(|line| line.chars().count() <= 100), "{plain}");
    let colour = render(&recorded(), Style::Colour);
    assert!(colour.contains("\x1b[1;31m✗ kube PUT statefulsets\x1b[0m"), "{colour}");
    let mut text = colour;
    for code in ["\x1b[1m", "\x1b[2m", "\x1b[36m", "\x1b[1;31m", "\x1b[0m"] {
        text = text.replace(code, "");
    }
    let trimmed: Vec<_> = text.lines().map(str::trim_end).collect();
    assert_eq!(trimmed, plain.lines().collect::<Vec<_>>());
}

#[test]
fn a_long_name_a_missing_parent_and_a_long_word_stay_within_the_columns() {
    let mut trace = recorded();
    trace.spans.retain(|span| span.name == "reconcile ports");
    trace.spans[0].name = "n".repeat(200);
    trace.spans[0].tags.insert("dittofs.diff".to_owned(), json!("d".repeat(300)));
    let text = render(&trace, Style::Plain);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.contains("… (its parent is missing)") && text.contains("1 span "), "{text}");
    let letters: usize = text.split_whitespace().filter(|word| word.chars().all(|c| c == 'd')).map(str::len).sum();
    assert_eq!(letters, 300, "{text}");
}
