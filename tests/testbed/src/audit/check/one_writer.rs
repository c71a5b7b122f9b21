//! S1: no two writes in flight for one object; its status and Events apart.

use super::{Broken, Promise, View, place, report};
use std::collections::BTreeMap;

pub(super) fn check(view: &View<'_>, broken: &mut Vec<Broken>) {
    let mut objects: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in view.writes().filter(|entry| !entry.is_event()) {
        let object = &entry.object;
        let key = (&object.api_group, &object.resource, &object.subresource, &object.namespace, &object.name);
        objects.entry(key).or_default().push(entry);
    }
    for entries in objects.values() {
        for pair in entries.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            // 504 is what the log has of a request whose client was gone: it gave up at its deadline, and a network that
            // had held the request delivered it later. Nothing was stored.
            let abandoned = first.code == 504 || second.code == 504;
            if !abandoned && second.received < first.finished && view.life(first.received) == view.life(second.received)
            {
                let words = format!("two writes to {} were in flight at once", place(&first.object));
                report(broken, Promise::S1, words, &[first, second]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Run, judged};
    use super::Promise::S1;

    fn two(second_at: i64) -> Run {
        let mut run = Run::new();
        run.ours("update", "services", "files-api").at(1000).took(10);
        run.ours("update", "services", "files-api").at(second_at).took(10);
        run
    }

    #[test]
    fn one_write_after_the_other_is_fine() {
        assert!(!judged(&two(1011)).contains(&S1));
    }

    #[test]
    fn two_writes_at_once_are_not() {
        assert!(judged(&two(1009)).contains(&S1));
    }

    #[test]
    fn a_write_that_its_client_gave_up_is_not_in_flight() {
        let mut run = Run::new();
        run.ours("patch", "services", "files-api").at(1000).took(190).code(504);
        run.ours("patch", "services", "files-api").at(1100).took(10);
        assert!(!judged(&run).contains(&S1));
    }

    #[test]
    fn the_write_of_a_killed_run_may_still_be_under_way() {
        let mut run = two(1009);
        run.facts.starts = vec![super::super::Micros(0), super::super::Micros(1_005_000)];
        assert!(!judged(&run).contains(&S1));
    }
}
