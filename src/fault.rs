//! Faults that tests switch on, to see that the tests and the checker of the guarantees catch them.
//!
//! Only a build with the feature `fault-injection` has them; in any other, every function here is constant. The
//! variable `DITTOFS_FAULTS` lists them, separated by commas: `NAME` switches a behaviour on, `panic:POINT` panics the
//! first time that the point is passed, `panic:POINT:N` the first N times, `panic:POINT:*` every time. `POINT@NAME`
//! means the point in the actors of the DittoServer `NAME` alone, as does a behaviour `…@NAME`.

/// Whether the behaviour `name` is switched on.
#[cfg(feature = "fault-injection")]
pub fn on(name: &str) -> bool {
    injected::list().iter().any(|fault| fault == name)
}

/// Whether the behaviour `name` is switched on: never, in this build.
#[cfg(not(feature = "fault-injection"))]
pub const fn on(_name: &str) -> bool {
    false
}

/// Whether the behaviour `name` is switched on in the actors of the DittoServer `server`, there alone or in every one.
#[cfg(feature = "fault-injection")]
pub fn on_for(name: &str, server: &str) -> bool {
    injected::list().iter().any(|fault| fault == name || fault.split_once('@') == Some((name, server)))
}

/// Whether the behaviour `name` is switched on there: never, in this build.
#[cfg(not(feature = "fault-injection"))]
pub const fn on_for(_name: &str, _server: &str) -> bool {
    false
}

/// A point that can be made to panic.
#[cfg(feature = "fault-injection")]
pub fn hit(point: &str) {
    injected::hit(point);
}

/// A point that can be made to panic: not in this build.
#[cfg(not(feature = "fault-injection"))]
pub const fn hit(_point: &str) {}

/// A point in an actor of the DittoServer `server` that can be made to panic, there alone or in every one.
#[cfg(feature = "fault-injection")]
pub fn hit_for(point: &str, server: &str) {
    injected::hit(point);
    injected::hit(&format!("{point}@{server}"));
}

/// A point in an actor that can be made to panic: not in this build.
#[cfg(not(feature = "fault-injection"))]
pub const fn hit_for(_point: &str, _server: &str) {}

#[cfg(feature = "fault-injection")]
mod injected {
    use std::collections::HashMap;
    use std::sync::{Mutex, OnceLock, PoisonError};

    pub(super) fn list() -> &'static [String] {
        static FAULTS: OnceLock<Vec<String>> = OnceLock::new();
        FAULTS.get_or_init(|| {
            let text = std::env::var("DITTOFS_FAULTS").unwrap_or_default();
            text.split(',').map(|fault| fault.trim().to_owned()).filter(|fault| !fault.is_empty()).collect()
        })
    }

    pub(super) fn hit(point: &str) {
        static PASSED: OnceLock<Mutex<HashMap<String, u64>>> = OnceLock::new();
        for fault in list() {
            let Some(rest) = fault.strip_prefix("panic:") else { continue };
            let (name, times) = rest.split_once(':').unwrap_or((rest, "1"));
            if name != point {
                continue;
            }
            let passed = {
                let mut all = PASSED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
                let count = all.entry(point.to_owned()).or_insert(0);
                *count += 1;
                *count
            };
            assert!(
                times != "*" && times.parse::<u64>().is_ok_and(|times| passed > times),
                "injected fault at {point}"
            );
        }
    }
}
