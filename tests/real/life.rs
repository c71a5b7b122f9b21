//! A server's life: created, served, stopped adapters, changed config.

use serde_json::json;

use crate::support::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_created_becomes_ready_and_its_adapters_are_served() {
    let bed = Bed::new("create").await;
    let server = bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &[("nfs", 12049), ("smb", 1445)]).await;
    assert_eq!(server["status"]["phase"], "Running");
    assert_eq!(server["status"]["activeAdapters"], "nfs, smb");
    bed.wait_adapter_ports("files", &[("nfs", 12049), ("smb", 1445)]).await;
    bed.finish(1).await;
}
