//! The operator as a process of its own, with its own account and no more rights than `deploy/rbac.yaml` gives.
//!
//! Owns the process, its account and its kubeconfig. The process is killed when this process ends, however it ends.
//! Linux only: `setpriv` and `/proc` are used.

mod account;
mod process;

pub use account::{Account, Rights};
pub use process::{Exit, Usage};
pub use rustix::process::Signal;

use crate::cluster::{Cluster, child, wait_until};
use crate::port::free_port;
use anyhow::Context as _;
use process::Process;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// How long an operator may take until it says that it is ready.
const READY: Duration = Duration::from_mins(1);

/// What an operator is started with.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// The program.
    pub binary: PathBuf,
    /// `--namespace`, and where its account may act; `None` is the whole cluster. Two operators of one cluster must not
    /// have a namespace in common: on the shared cluster only a narrowed one makes sense.
    pub namespace: Option<String>,
    /// The namespace of its service account.
    pub home: String,
    /// `--api-url-template`.
    pub api_url_template: String,
    /// More environment.
    pub env: Vec<(String, String)>,
    /// More arguments after `run`.
    pub extra_args: Vec<String>,
    /// The URL of a proxy in front of the API server, or of another API server over the same store.
    pub through: Option<String>,
    /// Where its rights come from.
    pub rights: Rights,
}

impl OperatorOptions {
    /// An operator for one namespace, in which its account also lives.
    pub fn new(binary: impl Into<PathBuf>, namespace: &str, api_url_template: &str) -> Self {
        Self {
            binary: binary.into(),
            namespace: Some(namespace.to_owned()),
            home: namespace.to_owned(),
            api_url_template: api_url_template.to_owned(),
            env: Vec::new(),
            extra_args: Vec::new(),
            through: None,
            rights: Rights::default(),
        }
    }
}

/// An operator, running or ended.
pub struct Operator {
    cluster: Cluster,
    options: OperatorOptions,
    account: Account,
    directory: tempfile::TempDir,
    health: Mutex<String>,
    processes: Mutex<Vec<Process>>,
}

impl Operator {
    /// Makes an account with the rights of `deploy/rbac.yaml` and starts the operator with it.
    ///
    /// # Errors
    /// When the account cannot be made or the program cannot be started. That it becomes ready is not waited for.
    pub async fn start(cluster: &Cluster, options: OperatorOptions) -> anyhow::Result<Self> {
        let account = Account::create(cluster, &options.home, options.namespace.as_deref(), &options.rights).await?;
        let directory = tempfile::Builder::new().prefix("operator-").tempdir_in(cluster.directory())?;
        account.write_kubeconfig(directory.path(), options.through.as_deref())?;
        let operator = Self {
            cluster: cluster.clone(),
            options,
            account,
            directory,
            health: Mutex::new(String::new()),
            processes: Mutex::new(Vec::new()),
        };
        operator.launch()?;
        Ok(operator)
    }

    /// Starts the program again with the same account; one that runs is killed first (SIGKILL).
    ///
    /// # Errors
    /// When the program cannot be started.
    pub async fn restart(&self) -> anyhow::Result<()> {
        if self.is_running() {
            self.sigkill().await?;
        }
        self.launch()
    }

    fn launch(&self) -> anyhow::Result<()> {
        let health = format!("127.0.0.1:{}", free_port()?);
        let options = &self.options;
        let mut command = child::guarded(&options.binary);
        command.args(["run", "--health-addr", &health, "--api-url-template", &options.api_url_template]);
        if let Some(namespace) = &options.namespace {
            command.args(["--namespace", namespace]);
        }
        command.args(&options.extra_args);
        command.env("KUBECONFIG", self.directory.path().join("kubeconfig"));
        // Neither a proxy of the machine nor a log filter of the developer decides what a test sees.
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.envs(options.env.iter().map(|(name, value)| (name, value)));
        let mut processes = lock(&self.processes);
        let log = self.directory.path().join(format!("log.{}", processes.len()));
        processes.push(start_process(command, &log)?);
        *lock(&self.health) = health;
        Ok(())
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When it does not in a minute, or the process ends; with the end of the log.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        let ready = wait_until("the operator's readiness", READY, async || {
            if let Some(exit) = self.wait_exit(Duration::ZERO).await {
                return Ok(Err(exit));
            }
            let (code, body) = self.health("/readyz").await.map_err(|error| format!("{error:#}"))?;
            if code == 200 { Ok(Ok(())) } else { Err(format!("{code} {body}")) }
        })
        .await;
        match ready {
            Ok(Ok(())) => Ok(()),
            Ok(Err(exit)) => {
                anyhow::bail!("the operator ended before it was ready ({exit:?}):\n{}", self.log_tail(40))
            }
            Err(error) => anyhow::bail!("{error}\n{}", self.log_tail(40)),
        }
    }

    /// Status and body of a GET on the health port.
    ///
    /// # Errors
    /// When there is no answer within 5 s.
    pub async fn health(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let url = format!("http://{}{path}", lock(&self.health));
        crate::cluster::background::run(async move {
            let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
            let answer = client.get(url).send().await?;
            Ok((answer.status().as_u16(), answer.text().await?))
        })
        .await
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// When it has not ended within `patience`; it is killed then.
    pub async fn sigterm(&self, patience: Duration) -> anyhow::Result<Exit> {
        let process = self.current();
        process.signal(rustix::process::Signal::TERM)?;
        let exit = process.wait(patience).await;
        if exit.is_none() {
            process.kill()?;
        }
        exit.with_context(|| format!("still running {patience:?} after SIGTERM:\n{}", self.log_tail(40)))
    }

    /// Kills the process and waits for its end.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn sigkill(&self) -> anyhow::Result<()> {
        let process = self.current();
        process.kill()?;
        process.wait(Duration::from_secs(30)).await.context("still there after SIGKILL").map(drop)
    }

    /// A handle for a hook that kills the process as it is then.
    pub fn killer(&self) -> impl Fn() + Send + Sync + 'static + use<> {
        let process = self.current();
        move || {
            // One that has ended needs no killing.
            let _ = process.kill();
        }
    }

    /// Sends another signal.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        self.current().signal(signal)
    }

    /// Whether the process runs.
    pub fn is_running(&self) -> bool {
        self.current().exit().is_none()
    }

    /// How the process ended, once it has.
    pub fn exit(&self) -> Option<Exit> {
        self.current().exit()
    }

    /// Waits until the process ends by itself.
    pub async fn wait_exit(&self, patience: Duration) -> Option<Exit> {
        self.current().wait(patience).await
    }

    /// Every line that it printed since its first start, stdout and stderr together.
    pub fn logs(&self) -> Vec<String> {
        lock(&self.processes).iter().flat_map(Process::logs).collect()
    }

    /// The last lines of the log, for a failing test.
    pub fn log_tail(&self, count: usize) -> String {
        let logs = self.logs();
        logs[logs.len().saturating_sub(count)..].join("\n")
    }

    /// Memory and processor time of the running process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        self.current().usage()
    }

    /// When the process was started, each time, oldest first.
    pub fn starts(&self) -> Vec<SystemTime> {
        lock(&self.processes).iter().map(Process::started).collect()
    }

    /// Its user name in the audit log.
    pub fn user(&self) -> String {
        self.account.user()
    }

    /// Its account.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Puts a new token into the file that its kubeconfig names.
    ///
    /// # Errors
    /// When none can be had.
    pub async fn rotate_token(&mut self) -> anyhow::Result<()> {
        self.account.renew(&self.cluster).await?;
        self.account.write_token(self.directory.path())
    }

    /// What it was started with.
    pub fn options(&self) -> &OperatorOptions {
        &self.options
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.current().pid()
    }

    fn current(&self) -> Process {
        lock(&self.processes).last().cloned().expect("started in start()")
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.current().kill();
    }
}

fn start_process(mut command: Command, log: &Path) -> anyhow::Result<Process> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Process::start(command, log)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
