//! The five actors of one DittoServer, as the Supervisor holds them: who they are, and how they are spoken to together.

use std::sync::Arc;

use actix::prelude::*;
use serde_json::Value;

use super::finalizer::Hold;
use crate::actors::adapter_poller::AdapterPoller;
use crate::actors::config_hasher::ConfigHasher;
use crate::actors::heart::{Heart, Pulse};
use crate::actors::inspect::Member;
use crate::actors::messages::{Cause, Peers, Poke, Resend, Role, Stop, Wire};
use crate::actors::port_reconciler::PortReconciler;
use crate::actors::service_reconciler::ServiceReconciler;
use crate::actors::specs::Spec;
use crate::actors::status_reporter::StatusReporter;
use crate::reconcile::ServerKey;
use crate::telemetry::metrics::Metrics;

/// The actors of one DittoServer.
pub(super) struct Family {
    pub(super) uid: String,
    /// What the last fan-out was about: a change of status alone is no reason for another.
    pub(super) print: Print,
    pub(super) ready: bool,
    pub(super) paused: bool,
    /// Its finalizer and its deletion.
    pub(super) hold: Hold,
    pub(super) metrics: Metrics,
    pub(super) pulse: Arc<Pulse>,
    pub(super) hasher: (Addr<ConfigHasher>, u64),
    pub(super) poller: (Addr<AdapterPoller>, u64),
    pub(super) services: (Addr<ServiceReconciler>, u64),
    pub(super) ports: (Addr<PortReconciler>, u64),
    pub(super) status: (Addr<StatusReporter>, u64),
}

/// Where a family's facts go.
pub(super) fn peers(
    ports: &Addr<PortReconciler>,
    services: &Addr<ServiceReconciler>,
    status: &Addr<StatusReporter>,
) -> Peers {
    Peers {
        hashed: ports.clone().recipient(),
        observed: vec![services.clone().recipient(), ports.clone().recipient()],
        status: status.clone().recipient(),
    }
}

/// What of a server its writers act upon: generation, deletion and annotations.
pub(super) type Print = (i64, bool, Value);

/// The print of a server as it was read. Its finalizers are the Supervisor's own business.
pub(super) fn print_of(spec: &Spec) -> Print {
    let annotations = spec.object.get("metadata").and_then(|meta| meta.get("annotations"));
    (spec.generation, spec.deleting, annotations.cloned().unwrap_or_default())
}

impl Family {
    pub(super) fn feel_pulse(&self, heart: &Heart) {
        let ask = |role| heart.ask(&self.pulse, role);
        if let Some(beat) = ask(Role::ConfigHasher) {
            self.hasher.0.do_send(beat);
        }
        if let Some(beat) = ask(Role::AdapterPoller) {
            self.poller.0.do_send(beat);
        }
        if let Some(beat) = ask(Role::ServiceReconciler) {
            self.services.0.do_send(beat);
        }
        if let Some(beat) = ask(Role::PortReconciler) {
            self.ports.0.do_send(beat);
        }
        if let Some(beat) = ask(Role::StatusReporter) {
            self.status.0.do_send(beat);
        }
    }

    pub(super) fn members(&self, key: &ServerKey) -> [Member; 5] {
        [
            (Role::ConfigHasher, self.hasher.0.clone().recipient()),
            (Role::AdapterPoller, self.poller.0.clone().recipient()),
            (Role::ServiceReconciler, self.services.0.clone().recipient()),
            (Role::PortReconciler, self.ports.0.clone().recipient()),
            (Role::StatusReporter, self.status.0.clone().recipient()),
        ]
        .map(|(role, address)| Member { key: key.clone(), role, address })
    }

    pub(super) fn poke_all(&self, cause: &Cause) {
        self.hasher.0.do_send(Poke(cause.to(&self.metrics, Role::ConfigHasher)));
        self.poller.0.do_send(Poke(cause.to(&self.metrics, Role::AdapterPoller)));
        self.services.0.do_send(Poke(cause.to(&self.metrics, Role::ServiceReconciler)));
        self.ports.0.do_send(Poke(cause.to(&self.metrics, Role::PortReconciler)));
        self.status.0.do_send(Poke(cause.to(&self.metrics, Role::StatusReporter)));
    }

    pub(super) fn rewire(&self) {
        let peers = peers(&self.ports.0, &self.services.0, &self.status.0);
        self.hasher.0.do_send(Wire(peers.clone()));
        self.poller.0.do_send(Wire(peers.clone()));
        self.services.0.do_send(Wire(peers.clone()));
        self.ports.0.do_send(Wire(peers));
        self.hasher.0.do_send(Resend);
        self.poller.0.do_send(Resend);
        self.services.0.do_send(Resend);
        self.ports.0.do_send(Resend);
    }

    pub(super) fn life(&self, role: Role) -> u64 {
        match role {
            Role::ConfigHasher => self.hasher.1,
            Role::AdapterPoller => self.poller.1,
            Role::ServiceReconciler => self.services.1,
            Role::PortReconciler => self.ports.1,
            Role::StatusReporter => self.status.1,
            Role::CrWatcher => 0,
        }
    }

    pub(super) fn stop(&self) {
        self.hasher.0.do_send(Stop);
        self.poller.0.do_send(Stop);
        self.services.0.do_send(Stop);
        self.ports.0.do_send(Stop);
        self.status.0.do_send(Stop);
    }
}
