//! A real Kubernetes control plane as a child process, and admin access to it.
//!
//! Owns the child (it ends when its stdin does, so also when this process is killed) and its directory. Everything here
//! acts with the rights of `system:masters`; what the operator does with its own rights is in [`crate::operator`].

mod api;
pub(crate) mod background;
pub(crate) mod child;
mod control;
mod namespace;
mod wait;

pub use api::{ApiError, Resource, resources};
pub use control::{LoadBalancers, PodBehavior, PodMode, PodStart, PodStarts, Volumes};
pub use namespace::Namespace;
pub use wait::{POLL, wait_until};

use anyhow::{Context as _, anyhow, bail};
use serde::Deserialize;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

/// How long a control plane may take from its start to its one line of JSON, on a machine that is busy with builds.
const START: Duration = Duration::from_mins(3);

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").components().collect()
}

/// A file of `deploy/`.
pub fn deploy(file: &str) -> PathBuf {
    repository().join("deploy").join(file)
}

/// What a control plane is started with.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Manifests that are applied before the start is reported.
    pub manifests: Vec<PathBuf>,
}

impl Default for ClusterOptions {
    /// With the CRD of `deploy/`.
    fn default() -> Self {
        Self { manifests: vec![deploy("crd.yaml")] }
    }
}

impl ClusterOptions {
    /// Without any manifest: the `DittoServer` kind is unknown.
    pub fn bare() -> Self {
        Self { manifests: Vec::new() }
    }
}

#[derive(Deserialize)]
struct Ready {
    kubeconfig: PathBuf,
    server: String,
    ca: String,
    admin_token: String,
    audit_log: PathBuf,
    control: String,
}

struct Inner {
    ready: Ready,
    binary: PathBuf,
    directory: PathBuf,
    client: kube::Client,
    // The child ends when this is closed.
    stdin: Mutex<Option<ChildStdin>>,
    child: Mutex<Child>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Ok(mut stdin) = self.stdin.lock() {
            stdin.take();
        }
        if let Ok(mut child) = self.child.lock() {
            let _ = child.wait();
        }
    }
}

/// A running control plane. A clone is another handle to the same one; it ends with the last handle.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

impl Cluster {
    /// Starts a control plane of its own.
    ///
    /// # Errors
    /// When the program cannot be built or started, or does not report its start in time; with the end of its log.
    pub async fn start(options: ClusterOptions) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(move || Self::start_blocking(&options)).await?
    }

    /// The control plane that all tests of this process share, with the CRD installed; started at the first call.
    ///
    /// # Panics
    /// When it cannot be started: nothing can be tested then.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let started = std::thread::spawn(|| Self::start_blocking(&ClusterOptions::default()));
            match started.join() {
                Ok(Ok(cluster)) => cluster,
                Ok(Err(error)) => panic!("no control plane: {error:#}"),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn start_blocking(options: &ClusterOptions) -> anyhow::Result<Self> {
        let runtime = background::runtime();
        let binary = binary()?;
        let directory = tempfile::Builder::new().prefix("dittofs-cluster-").tempdir()?.keep();
        // Beside the directory: it is read when the program has failed and its directory is gone.
        let log = directory.with_extension("log");
        // The shell outlives the program and removes the directory: nobody else can when this process is killed.
        let script = if std::env::var_os("DITTOFS_TESTBED_KEEP").is_some() {
            r#"exec "$0" up --dir "$@""#
        } else {
            r#""$0" up --dir "$@"; status=$?; cd / && rm -rf -- "$1"; [ $status != 0 ] || rm -f -- "$1.log"; exit $status"#
        };
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(&binary).arg(&directory);
        for manifest in &options.manifests {
            command.arg("--manifest").arg(manifest);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
        let mut child = child::spawn(command).context("starting the control plane")?;
        let stdin = child.stdin.take();
        let ready = read_ready(&mut child);
        let ready = match ready {
            Ok(ready) => ready,
            Err(error) => {
                let tail = tail(&log, 30);
                drop(stdin);
                let _ = child.wait();
                let _ = std::fs::remove_file(&log);
                return Err(error.context(format!("control plane; the end of its log:\n{tail}")));
            }
        };
        let client = runtime.block_on(make_client(&ready.kubeconfig))?;
        let inner = Inner { ready, binary, directory, client, stdin: Mutex::new(stdin), child: Mutex::new(child) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The URL of the API server.
    pub fn server(&self) -> &str {
        &self.inner.ready.server
    }

    /// The certificate authority of the API server, PEM.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn ca(&self) -> anyhow::Result<String> {
        let ca = &self.inner.ready.ca;
        if ca.starts_with("-----BEGIN") {
            return Ok(ca.clone());
        }
        std::fs::read_to_string(ca).with_context(|| format!("reading {ca}"))
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.inner.ready.kubeconfig
    }

    /// The admin's bearer token.
    pub fn admin_token(&self) -> &str {
        &self.inner.ready.admin_token
    }

    /// The program that holds the control plane; `PROGRAM kubectl …` is kubectl.
    pub fn program(&self) -> &Path {
        &self.inner.binary
    }

    /// The audit log: one JSON object a line.
    pub fn audit_log(&self) -> &Path {
        &self.inner.ready.audit_log
    }

    /// Everything that this control plane stores, its logs included; gone after its end.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// A `kube` client with admin rights, bound to the calling runtime.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        make_client(self.kubeconfig()).await
    }

    /// Runs `kubectl ARGS` as admin and gives what it printed, whatever its exit code.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub async fn kubectl<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> anyhow::Result<Output> {
        let mut command = tokio::process::Command::new(&self.inner.binary);
        command.arg("kubectl").arg("--kubeconfig").arg(self.kubeconfig()).args(args);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command.output().await.context("running kubectl")
    }

    /// As [`Cluster::kubectl`], and an exit code other than 0 is an error with what was printed.
    ///
    /// # Errors
    /// When it cannot be run, or fails.
    pub async fn kubectl_ok<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> anyhow::Result<String> {
        let output = self.kubectl(args).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let words: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
            bail!("kubectl {}: {}{text}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(text)
    }

    /// A new namespace whose name starts with `prefix` and is used by nobody else.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn namespace(&self, prefix: &str) -> anyhow::Result<Namespace> {
        Namespace::create(self, prefix).await
    }
}

async fn make_client(kubeconfig: &Path) -> anyhow::Result<kube::Client> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let file = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
    // A test wants to see a failure as it is, and soon.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_mins(1));
    // Else a connection that lay idle for 59 s would leave the answer to the next request one second.
    config.reset_reader_on_write = true;
    config.proxy_url = None;
    Ok(kube::Client::try_from(config)?)
}

/// The control plane's program: `DITTOFS_CONTROLPLANE`, else what `tests/controlplane/build.sh` builds and caches.
fn binary() -> anyhow::Result<PathBuf> {
    built("DITTOFS_CONTROLPLANE", "tests/controlplane/build.sh")
}

/// A program of the tests: what the environment `variable` names, else the path that the repository's `script` prints
/// when it has built it.
pub(crate) fn built(variable: &str, script: &str) -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let script = repository().join(script);
    let output = Command::new(&script)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {}", script.display()))?;
    if !output.status.success() {
        bail!("{} failed: {}", script.display(), output.status);
    }
    let printed = String::from_utf8(output.stdout)?;
    let path = printed.lines().last().map(str::trim).filter(|path| !path.is_empty());
    path.map(PathBuf::from).ok_or_else(|| anyhow!("{} printed no path", script.display()))
}

fn read_ready(child: &mut Child) -> anyhow::Result<Ready> {
    let stdout = child.stdout.take().context("the control plane has no stdout")?;
    let (sender, line) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines();
        let _ = sender.send(lines.next());
        // Whatever it prints later must not fill the pipe.
        for _ in lines {}
    });
    match line.recv_timeout(START) {
        Ok(Some(line)) => {
            let line = line?;
            serde_json::from_str(&line).with_context(|| format!("not the line that was expected: {line}"))
        }
        Ok(None) => bail!("ended before it was ready"),
        Err(_) => bail!("not ready within {START:?}"),
    }
}

/// The last `count` lines of a file, or why there are none.
pub(crate) fn tail(path: &Path, count: usize) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(count)..].join("\n")
        }
        Err(error) => format!("({}: {error})", path.display()),
    }
}
