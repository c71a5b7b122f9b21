//! One run of the operator's program: its output, its end, what it used.

use super::lock;
use crate::cluster::child;
use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// How long it took from the wait's start.
    pub took: Duration,
}

/// What a running process uses.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Peak of the resident memory, bytes.
    pub peak_memory: u64,
    /// Resident memory, bytes.
    pub memory: u64,
    /// Processor time, user and system together.
    pub cpu: Duration,
}

#[derive(Clone)]
pub(super) struct Process {
    pid: u32,
    started: SystemTime,
    child: Arc<Mutex<Child>>,
    lines: Arc<Mutex<Vec<String>>>,
    /// Outputs that have not been read to their end.
    open: Arc<AtomicUsize>,
}

impl Process {
    pub(super) fn start(command: Command, log: &Path) -> anyhow::Result<Self> {
        let program = command.get_args().nth(3).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let started = SystemTime::now();
        let mut child = child::spawn(command).with_context(|| format!("starting {program} (setpriv is needed)"))?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let file = Arc::new(Mutex::new(std::fs::File::create(log)?));
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let open = Arc::new(AtomicUsize::new(2));
        collect(stdout, &lines, &file, &open);
        collect(stderr, &lines, &file, &open);
        Ok(Self { pid: child.id(), started, child: Arc::new(Mutex::new(child)), lines, open })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn started(&self) -> SystemTime {
        self.started
    }

    pub(super) fn logs(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        let status = lock(&self.child).try_wait().ok().flatten()?;
        Some(Exit { code: status.code(), signal: status.signal(), took: Duration::ZERO })
    }

    /// Waits for the end of the process, and of its output.
    pub(super) async fn wait(&self, patience: Duration) -> Option<Exit> {
        let start = Instant::now();
        loop {
            if let Some(exit) = self.exit() {
                let took = start.elapsed();
                // A grandchild may hold an output open: it is not waited for.
                while self.open.load(Ordering::Acquire) > 0 && start.elapsed() < took + Duration::from_secs(2) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                return Some(Exit { took, ..exit });
            }
            if start.elapsed() >= patience {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn kill(&self) -> anyhow::Result<()> {
        // Refuses by itself once the child was waited for, so that no other process is hit.
        lock(&self.child).kill().context("SIGKILL")
    }

    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // Under the lock nobody waits for the child, so its id cannot be another's yet.
        let mut child = lock(&self.child);
        anyhow::ensure!(child.try_wait()?.is_none(), "the process has ended");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, signal).with_context(|| format!("{signal:?}"))
    }

    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        Ok(Usage {
            peak_memory: memory(&status, "VmHWM:").context("no VmHWM: ended?")?,
            memory: memory(&status, "VmRSS:").context("no VmRSS: ended?")?,
            cpu: cpu(&stat).context("no times in stat")?,
        })
    }
}

fn collect(
    from: impl Read + Send + 'static,
    lines: &Arc<Mutex<Vec<String>>>,
    file: &Arc<Mutex<std::fs::File>>,
    open: &Arc<AtomicUsize>,
) {
    let (lines, file, open) = (Arc::clone(lines), Arc::clone(file), Arc::clone(open));
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            // A full disk must not stop the operator under test.
            let _ = writeln!(lock(&file), "{line}");
            lock(&lines).push(line);
        }
        open.fetch_sub(1, Ordering::Release);
    });
}

/// A memory field of `/proc/PID/status`, bytes.
fn memory(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// User and system time of `/proc/PID/stat`; Linux counts them in 1/100 s wherever it runs Kubernetes.
fn cpu(stat: &str) -> Option<Duration> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_time_are_read_from_proc() {
        assert_eq!(memory("Name:\tx\nVmHWM:\t    2048 kB\n", "VmHWM:"), Some(2048 * 1024));
        let stat = "12 (a ) b) S 1 1 1 0 -1 0 1 2 3 4 150 50 0 0 20";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
    }

    fn script(text: &str) -> Process {
        let directory = tempfile::tempdir().unwrap();
        let mut command = child::guarded("sh");
        command.args(["-c", text]).stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        Process::start(command, &directory.path().join("log")).unwrap()
    }

    #[tokio::test]
    async fn output_and_exit_code_are_seen() {
        let process = script("echo out; echo err >&2; exit 3");
        let exit = process.wait(Duration::from_secs(20)).await.unwrap();
        assert_eq!((exit.code, exit.signal), (Some(3), None));
        let mut lines = process.logs();
        lines.sort();
        assert_eq!(lines, ["err", "out"]);
    }

    #[tokio::test]
    async fn a_signal_ends_it_and_is_reported() {
        let process = script("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done");
        crate::cluster::wait_until("the trap", Duration::from_secs(20), async || {
            if process.logs().is_empty() { Err("nothing printed".to_owned()) } else { Ok(()) }
        })
        .await
        .unwrap();
        assert!(process.usage().unwrap().peak_memory > 0);
        process.signal(Signal::TERM).unwrap();
        assert_eq!(process.wait(Duration::from_secs(20)).await.unwrap().code, Some(7));
        assert!(process.signal(Signal::TERM).is_err(), "a signal to a process that has ended");
    }
}
