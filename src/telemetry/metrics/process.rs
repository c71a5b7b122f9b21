//! What the kernel knows of this process, from `/proc/self`, and the memory limit of its cgroup.
//!
//! Touches files under `/proc` and `/sys/fs/cgroup`, when metrics are scraped. What cannot be read has no series.

use std::fs;
use std::path::Path;

/// The kernel's unit of CPU times and start times in `/proc`: `USER_HZ`, 100 on every architecture that Rust runs
/// Linux containers on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A look at the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
    pub(super) virtual_bytes: Option<f64>,
    pub(super) open_fds: Option<f64>,
    pub(super) max_fds: Option<f64>,
    pub(super) threads: Option<f64>,
    pub(super) start_seconds: Option<f64>,
    pub(super) memory_limit_bytes: Option<f64>,
}

impl Process {
    /// As it is now.
    pub(super) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut process = Self::parse(
            &read("/proc/self/stat"),
            &read("/proc/self/status"),
            &read("/proc/self/limits"),
            &read("/proc/stat"),
        );
        // The directory is open while it is read: one less.
        process.open_fds =
            fs::read_dir("/proc/self/fd").ok().map(|entries| as_f64(entries.count().saturating_sub(1) as u64));
        process.memory_limit_bytes = memory_limit(Path::new("/sys/fs/cgroup"));
        process
    }

    fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Self {
        // The command may hold blanks and brackets: what follows the last one is regular, from field 3 on.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok().map(|n| as_f64(n) / TICKS_PER_SECOND);
        let of_status = |name: &str| number(status.lines().find_map(|line| line.strip_prefix(name))?);
        let booted = system.lines().find_map(|line| line.strip_prefix("btime ")).and_then(number);
        Self {
            cpu_seconds: ticks(14).zip(ticks(15)).map(|(user, system)| user + system),
            resident_bytes: of_status("VmRSS:").map(|kib| kib * 1024.0),
            virtual_bytes: of_status("VmSize:").map(|kib| kib * 1024.0),
            threads: of_status("Threads:"),
            start_seconds: booted.zip(ticks(22)).map(|(booted, since)| booted + since),
            max_fds: limits.lines().find_map(|line| line.strip_prefix("Max open files")).and_then(number),
            ..Self::default()
        }
    }
}

/// The first word as a number.
fn number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse::<u64>().ok().map(as_f64)
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float; 2^53 bytes are more than any process has")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

/// The limit of cgroup v2, or v1; None when there is none. In a container its own cgroup is mounted at `root`.
fn memory_limit(root: &Path) -> Option<f64> {
    let limit = ["memory.max", "memory/memory.limit_in_bytes"]
        .into_iter()
        .find_map(|file| fs::read_to_string(root.join(file)).ok())?;
    // Version 2 says `max`; version 1 a number that no machine has.
    limit.trim().parse::<u64>().ok().filter(|bytes| *bytes < 1 << 60).map(as_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_by_their_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 150 13 14 15 16 17 18 1000 20";
        let status = "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t  100 kB\nThreads:\t5\n";
        let limits = "Limit   Soft Limit  Hard Limit Units\nMax open files            1024    4096    files\n";
        let process = Process::parse(stat, status, limits, "cpu 1\nbtime 1700000000\n");
        let expected = Process {
            cpu_seconds: Some(4.0),
            resident_bytes: Some(102_400.0),
            virtual_bytes: Some(2_097_152.0),
            threads: Some(5.0),
            start_seconds: Some(1_700_000_010.0),
            max_fds: Some(1024.0),
            ..Process::default()
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("", "", "", ""), Process::default());
    }

    #[test]
    fn this_process_has_all_of_it() {
        let process = Process::look();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1e5), "{process:?}");
        assert!(process.virtual_bytes >= process.resident_bytes, "{process:?}");
        assert!(process.open_fds.is_some_and(|fds| fds >= 3.0) && process.max_fds >= process.open_fds, "{process:?}");
        assert!(process.threads >= Some(1.0) && process.cpu_seconds >= Some(0.0), "{process:?}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let age = now.as_secs_f64() - process.start_seconds.expect("a start");
        assert!((-2.0..3600.0).contains(&age), "{age}");
    }

    #[test]
    fn a_memory_limit_is_one_that_limits() {
        let root = std::env::temp_dir().join(format!("dittofs-operator-cgroup-{}", std::process::id()));
        fs::create_dir_all(root.join("memory")).expect("a directory");
        assert_eq!(memory_limit(&root), None);
        fs::write(root.join("memory/memory.limit_in_bytes"), "9223372036854771712\n").expect("written");
        assert_eq!(memory_limit(&root), None);
        fs::write(root.join("memory.max"), "134217728\n").expect("written");
        assert_eq!(memory_limit(&root), Some(134_217_728.0));
        fs::write(root.join("memory.max"), "max\n").expect("written");
        assert_eq!(memory_limit(&root), None);
        fs::remove_dir_all(&root).expect("removed");
    }
}
