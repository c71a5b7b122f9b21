//! `spec.logging` and `spec.rollout`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The server's log; INFO, json and stdout when unset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoggingSpec {
    /// Least level that is logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<LogLevel>,
    /// Form of a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
    /// stdout, stderr or a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub output: Option<String>,
}

/// Level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What looks wrong.
    Warn,
    /// What is wrong.
    Error,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// When a change restarts the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// What a change of adapter ports alone does to the pod. Deferred: written at once and held back until something
    /// else rolls the pod; `WithNextRollout`: written only then; Immediate: rolled at once.
    #[serde(default)]
    pub on_port_change: OnPortChangeSpec,
    /// Always: every change of the spec rolls the pod once; `WhenNeeded`: only what the server reads.
    #[serde(default)]
    pub on_spec_change: OnSpecChangeSpec,
}

/// What a change of adapter ports alone does to the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum OnPortChangeSpec {
    #[default]
    /// Written at once, held back from the running pod.
    Deferred,
    /// Written together with the next change that rolls the pod.
    WithNextRollout,
    /// Written and rolled at once.
    Immediate,
}

/// Which changes of the spec roll the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum OnSpecChangeSpec {
    #[default]
    /// Every one.
    Always,
    /// Those that the server can see.
    WhenNeeded,
}
