//! The `DittoServer` resource: its Rust types, from which `deploy/crd.yaml` is generated.
