//! S7: reads and writes stay in the namespaces of the servers; the operator of one namespace asks for no other.

use super::{Broken, Promise, View, place, report};

/// Reads of the whole cluster that every operator may do: kinds without a namespace.
const CLUSTER_SCOPED: [&str; 4] =
    ["customresourcedefinitions", "namespaces", "selfsubjectaccessreviews", "storageclasses"];

pub(super) fn check(view: &View<'_>, broken: &mut Vec<Broken>) {
    for entry in &view.ours {
        let object = &entry.object;
        if object.resource.is_empty() || CLUSTER_SCOPED.contains(&object.resource.as_str()) {
            continue;
        }
        if object.namespace.is_empty() {
            if !view.facts.whole_cluster || entry.is_write() {
                let words = format!("{} of {} in the whole cluster", entry.verb, object.resource);
                report(broken, Promise::S7, words, &[entry]);
            }
        } else if !view.facts.expect.allowed_namespaces.contains(&object.namespace) {
            let words = format!("{} of {} outside the namespaces of the servers", entry.verb, place(object));
            report(broken, Promise::S7, words, &[entry]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Run, judged};
    use super::Promise::S7;

    #[test]
    fn the_servers_namespace_is_fine_and_another_is_not() {
        let mut run = Run::new();
        run.ours("get", "secrets", "files-jwt-secret").at(1);
        assert!(!judged(&run).contains(&S7));
        run.ours("get", "secrets", "x").at(2).namespace("other");
        assert!(judged(&run).contains(&S7));
    }

    #[test]
    fn an_operator_of_one_namespace_lists_no_other() {
        let mut run = Run::new();
        run.ours("list", "services", "").at(1).namespace("");
        assert!(judged(&run).contains(&S7));
        run.facts.whole_cluster = true;
        assert!(!judged(&run).contains(&S7));
    }
}
