//! Child processes that cannot outlive the test process.
//!
//! Owns how children are started; kills nothing but what it started. Two ways are used, because a test can end by
//! returning, by panicking, by Ctrl-C or by SIGKILL:
//!
//! - a program that ends by itself at the end of its stdin gets a pipe whose other end this process holds;
//! - any other program runs under `setpriv --pdeathsig KILL` (util-linux). The kernel sends that signal when the
//!   *thread* that made the child ends, so all children are made by one thread that lives as long as the process.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};

type Job = (Command, mpsc::Sender<io::Result<Child>>);

fn spawner() -> &'static mpsc::Sender<Job> {
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("testbed-spawner".to_owned())
            .spawn(move || {
                for (mut command, answer) in jobs {
                    // The asker can only be gone when its thread was killed with the process.
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        sender
    })
}

/// Starts `command` in a process group of its own (Ctrl-C at the terminal then reaches the test process only) from the
/// thread that lives as long as the process.
pub(crate) fn spawn(mut command: Command) -> io::Result<Child> {
    command.process_group(0);
    let (answer, child) = mpsc::channel();
    spawner().send((command, answer)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}

/// A command line that runs `program` so that it is killed when this process ends, however it ends.
pub(crate) fn guarded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn a_guarded_child_survives_the_thread_that_asked_for_it() {
        let mut child = std::thread::spawn(|| {
            let mut command = guarded("sleep");
            command.arg("60").stdin(Stdio::null());
            spawn(command).unwrap()
        })
        .join()
        .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(child.try_wait().unwrap().is_none(), "killed together with the asking thread");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
