//! Objects as text that takes little room: compressed, with another object of the kind as the pattern.
//!
//! Owns: how an object is held while nobody looks at it. Touches nothing. Guarantees: what was packed reads as the same
//! value. The objects of a kind differ from server to server in names and numbers only; measured on what one server
//! needs, the text shrinks to a fifth.

use std::sync::Arc;

use lz4_flex::block;
use serde_json::Value;

/// Longest pattern that is kept, in bytes: the usual object of any kind is shorter, and one that a user filled up is no
/// pattern for the others.
const PATTERN_MAX: usize = 16 * 1024;

/// What the objects of one kind have in common: the first one that was seen.
#[derive(Default)]
pub(super) struct Pattern(Option<Arc<[u8]>>);

impl Pattern {
    /// The object as text.
    pub(super) fn pack(&mut self, object: &Value) -> Text {
        let text = object.to_string().into_bytes();
        let first = || Arc::from(&text[..text.len().min(PATTERN_MAX)]);
        let pattern = self.0.get_or_insert_with(first).clone();
        let packed = block::compress_with_dict(&text, &pattern).into_boxed_slice();
        Text { packed, length: text.len(), pattern }
    }
}

/// One object.
pub(super) struct Text {
    packed: Box<[u8]>,
    /// Of the text itself, in bytes.
    length: usize,
    pattern: Arc<[u8]>,
}

impl Text {
    /// The object; it was made from one, so it reads.
    pub(super) fn read(&self) -> Value {
        let text = block::decompress_with_dict(&self.packed, self.length, &self.pattern).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn service(server: &str, port: u16) -> Value {
        let ports = json!([{"name": "api", "port": port, "protocol": "TCP", "targetPort": "api"}]);
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("{server}-api"), "namespace": "team-a", "labels": {"app": "dittofs-server"}},
            "spec": {"type": "LoadBalancer", "ports": ports, "selector": {"app": "dittofs-server", "instance": server}},
            "status": {"loadBalancer": {"ingress": [{"ip": format!("10.0.0.{}", port % 250)}]}},
        })
    }

    #[test]
    fn the_second_of_a_kind_takes_a_fraction_of_its_text() {
        let mut pattern = Pattern::default();
        for (server, port) in [("files", 8080), ("archive", 8443), ("home-directories", 9000)] {
            let object = service(server, port);
            let text = pattern.pack(&object);
            assert_eq!(text.read(), object);
            assert!(text.packed.len() * 2 < text.length, "{} of {} bytes", text.packed.len(), text.length);
        }
    }

    #[test]
    fn an_object_that_was_filled_up_is_read_back_and_is_no_burden_for_the_others() {
        let mut pattern = Pattern::default();
        let full = json!({"metadata": {"annotations": {"notes": "é".repeat(500_000)}}});
        let (text, other) = (pattern.pack(&full), pattern.pack(&service("files", 8080)));
        assert_eq!(text.read(), full);
        assert_eq!(other.read(), service("files", 8080));
        assert_eq!(other.pattern.len(), PATTERN_MAX);
    }

    proptest! {
        #[test]
        fn whatever_is_packed_reads_the_same(objects in prop::collection::vec((".{0,40}", any::<i64>(), prop::collection::vec(".{0,9}", 0..6)), 1..6)) {
            let mut pattern = Pattern::default();
            for (name, number, list) in objects {
                let object = json!({"metadata": {"name": name}, "number": number, "list": list});
                prop_assert_eq!(pattern.pack(&object).read(), object);
            }
        }
    }
}
