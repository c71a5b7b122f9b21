//! A program of others that a test sends to or asks over HTTP, as a child process.
//!
//! Owns the child, its log and its directory. The child is killed when the handle is dropped and when this process
//! ends, however it ends ([`child::guarded`]); only after a SIGKILL of this process does the directory stay.

use crate::cluster::{background, child, tail};
use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// How long a program may take from its start until it is ready, on a machine that is busy with builds.
const READY: Duration = Duration::from_mins(2);

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(30);

pub(crate) struct Backend {
    name: &'static str,
    pid: u32,
    child: Mutex<Child>,
    log: PathBuf,
    directory: tempfile::TempDir,
}

impl Backend {
    /// An empty directory for a program of that name.
    pub(crate) fn directory(name: &str) -> anyhow::Result<tempfile::TempDir> {
        Ok(tempfile::Builder::new().prefix(&format!("dittofs-{name}-")).tempdir()?)
    }

    /// Starts `program` in `directory` and waits until a GET of `ready` answers 200.
    pub(crate) async fn start(
        name: &'static str,
        program: &Path,
        args: &[String],
        directory: tempfile::TempDir,
        ready: &str,
    ) -> anyhow::Result<Self> {
        let log = directory.path().join("log");
        let file = std::fs::File::create(&log)?;
        let mut command = child::guarded(program);
        command.args(args).current_dir(directory.path());
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = child::spawn(command).with_context(|| format!("starting {name} (setpriv is needed)"))?;
        let backend = Self { name, pid: child.id(), child: Mutex::new(child), log, directory };
        backend.wait_ready(ready).await?;
        Ok(backend)
    }

    async fn wait_ready(&self, url: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let reason = match get(url).await {
                Ok((200, _)) => return Ok(()),
                Ok((code, body)) => format!("{code} {body}"),
                Err(error) => format!("{error:#}"),
            };
            let status = self.child.lock().ok().and_then(|mut child| child.try_wait().ok().flatten());
            if let Some(status) = status {
                bail!("{} ended before it was ready ({status}):\n{}", self.name, self.log_tail());
            }
            if start.elapsed() > READY {
                bail!("{} is not ready after {READY:?}: {reason}\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(crate::cluster::POLL).await;
        }
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log, 30)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Everything that it stores.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Ok(mut child) = self.child.lock() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Status and body of a GET.
pub(crate) async fn get(url: &str) -> anyhow::Result<(u16, String)> {
    ask(http::Method::GET, url).await
}

/// Status and body of a request without a body.
pub(crate) async fn ask(method: http::Method, url: &str) -> anyhow::Result<(u16, String)> {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    let url = url.to_owned();
    background::run(async move {
        let client = if let Some(client) = CLIENT.get() {
            client
        } else {
            let client = reqwest::Client::builder().no_proxy().timeout(REQUEST).build()?;
            CLIENT.get_or_init(|| client)
        };
        let answer = client.request(method, &url).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    })
    .await
}

/// `base?name=value&…`, escaped.
pub(crate) fn with_query(base: &str, query: &[(&str, String)]) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let query: Vec<_> =
        query.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))).collect();
    format!("{base}?{}", query.join("&"))
}

/// Time since 1970.
pub(crate) fn since_epoch() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_escaped() {
        let url = with_query("http://h/x", &[("a", "1".to_owned()), ("tags", r#"{"k":"v w&"}"#.to_owned())]);
        assert_eq!(url, "http://h/x?a=1&tags=%7B%22k%22%3A%22v%20w%26%22%7D");
    }

    #[tokio::test]
    async fn a_program_that_ends_early_is_reported_with_its_log() {
        let directory = Backend::directory("early").unwrap();
        let args = ["-c".to_owned(), "echo no such flag >&2; exit 3".to_owned()];
        let error = Backend::start("early", Path::new("sh"), &args, directory, "http://127.0.0.1:1/").await;
        let error = error.err().expect("not a server").to_string();
        assert!(error.contains("early ended") && error.contains("no such flag"), "{error}");
    }
}
