//! The commands of the runbooks, each tried as it stands there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use dittofs_testbed::cluster::{deploy, repository};
use serde_json::json;

use crate::support::Bed;

/// A fenced block of a page.
struct Block {
    page: String,
    line: usize,
    text: String,
}

/// The blocks ```` ```sh ```` of a page, and how many are marked `notest` with a reason.
fn blocks(page: &str, text: &str) -> (Vec<Block>, usize) {
    let (mut found, mut left_out) = (Vec::new(), 0);
    let mut open: Option<Option<Block>> = None;
    for (number, line) in text.lines().enumerate() {
        let word = line.trim_start();
        match (&mut open, word.strip_prefix("```")) {
            (None, Some("sh")) => {
                open = Some(Some(Block { page: page.to_owned(), line: number + 1, text: String::new() }));
            }
            (None, Some(kind)) => {
                if let Some(reason) = kind.strip_prefix("sh notest") {
                    assert!(reason.len() > 5, "{page}:{}: not tested, and no reason", number + 1);
                    left_out += 1;
                }
                open = Some(None);
            }
            (Some(block), Some(_)) => {
                found.extend(block.take());
                open = None;
            }
            (Some(Some(block)), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (Some(None) | None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block without an end");
    (found, left_out)
}

/// A `kubectl` in `directory` that is the control plane's.
fn kubectl(directory: &Path, program: &Path) {
    let script = format!("#!/bin/sh\nexec '{}' kubectl --kubeconfig \"$KUBECONFIG\" \"$@\"\n", program.display());
    let path = directory.join("kubectl");
    std::fs::write(&path, script).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_runbooks_works() {
    let bed = Bed::new("runbooks").await;
    bed.ready_server("files", &json!({"rollout": {"onSpecChange": "WhenNeeded"}})).await;
    bed.wait_adapter_services("files", &[("nfs", 12049), ("smb", 1445)]).await;
    let cluster = bed.world.cluster();
    // The operator's own objects are what a runbook looks at; no process runs for this Deployment.
    for manifest in ["namespace.yaml", "deployment.yaml"] {
        let manifest = deploy(manifest);
        let words = ["apply".as_ref(), "--server-side".as_ref(), "-f".as_ref(), manifest.as_os_str()];
        cluster.kubectl_ok(&words).await.expect("applied");
    }
    let programs = cluster.directory().join("programs");
    std::fs::create_dir_all(&programs).expect("a directory");
    kubectl(&programs, cluster.program());
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());

    let mut pages: Vec<_> = std::fs::read_dir(repository().join("docs/runbooks")).expect("pages").collect();
    pages.sort_by_key(|page| page.as_ref().map(std::fs::DirEntry::file_name).ok());
    let (mut tried, mut left_out) = (0, 0);
    for page in pages {
        let page = page.expect("a page").path();
        let name = page.file_name().expect("a name").to_string_lossy().into_owned();
        let (blocks, skipped) = blocks(&name, &std::fs::read_to_string(&page).expect("a page"));
        assert!(!blocks.is_empty(), "{name}: nothing to try");
        left_out += skipped;
        let mut said = String::new();
        for block in blocks {
            let mut command = tokio::process::Command::new("sh");
            command.args(["-eu", "-c", &block.text]).stdin(Stdio::null()).kill_on_drop(true);
            command.env("PATH", &path).env("KUBECONFIG", cluster.kubeconfig());
            command.env("NAMESPACE", bed.world.namespace().name()).env("SERVER", "files");
            let output = command.output().await.expect("sh runs");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}:{}: {}\n{errors}", block.page, block.line, block.text);
            for wrong in ["unknown", "error", "NotFound", "not found", "syntax"] {
                assert!(!errors.contains(wrong), "{}:{}: {}\n{errors}", block.page, block.line, block.text);
            }
            said.push_str(&String::from_utf8_lossy(&output.stdout));
            tried += 1;
        }
        assert!(!said.trim().is_empty(), "{name}: its commands say nothing");
    }
    assert!(tried > 15 && left_out < 4, "{tried} blocks tried, {left_out} left out");
    let words = ["delete", "-n", "dittofs-system", "deployment/dittofs-operator", "--wait=false"];
    cluster.kubectl_ok(&words).await.expect("deleted");
    // One of them rolls the pod.
    bed.wait_starts(2).await;
    bed.finish(2).await;
}
