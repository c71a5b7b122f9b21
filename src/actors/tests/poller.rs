//! AdapterPoller against the DittoFS stand-in, over real sockets and the scripted API server: pace and observations.

mod accounts;
mod errands;
mod errands_limits;
mod modes;
mod pace;
mod tls;

use std::time::Duration;

use actix::prelude::*;
use dittofs_testbed::dittofs::{Record, ServerHandle, StandIn};
use serde_json::json;

use crate::actors::adapter_poller::AdapterPoller;
use crate::actors::messages::{AdaptersObserved, ConfigHashed, Fact, Peers, Report, Role};
use crate::actors::testing::{Bench, Probe, changed, eventually, key};
use crate::cluster::Kind;
use crate::reconcile::AdapterState;
use crate::reconcile::status::PollFact;

const ADMIN: &str = "files-admin-bootstrap-credentials";
const CREDENTIALS: &str = "files-operator-credentials";

struct Bed {
    bench: Bench,
    _stand_in: StandIn,
    server: ServerHandle,
    observed: Probe<AdaptersObserved>,
    status: Probe<Report>,
    address: Addr<AdapterPoller>,
}

impl Bed {
    /// A server that runs nfs and smb, polled each second, and a poller that has not begun.
    async fn new() -> Self {
        let stand_in = StandIn::start().await.expect("a stand-in");
        let bench = Bench::with_template(&stand_in.url_template()).and_server(|_| {});
        let server = stand_in.server("team", "files");
        server.set_start_delay(Duration::ZERO);
        server.set_admin("admin", "bootstrap-password");
        bench
            .api
            .put(Kind::Secret, json!({"metadata": {"name": ADMIN}, "data": {"password": "Ym9vdHN0cmFwLXBhc3N3b3Jk"}}));
        let (observed, status, hashes): (_, _, Probe<ConfigHashed>) = (Probe::new(), Probe::new(), Probe::new());
        let peers =
            Peers { hashed: hashes.recipient(), observed: vec![observed.recipient()], status: status.recipient() };
        let lifeline = bench.lifeline(Role::AdapterPoller);
        let address = AdapterPoller::new(key(), bench.deps.clone(), peers, 0.0, lifeline).start();
        Self { bench, _stand_in: stand_in, server, observed, status, address }
    }

    /// The same, after its first valid answer, and after the administrator's session that follows it.
    async fn polling() -> Self {
        let bed = Self::new().await;
        bed.poke();
        eventually("the first observation", || bed.observations() == 1).await;
        eventually("the settings of nfs", || bed.observed.last().is_some_and(|told| told.nfs.is_some())).await;
        bed
    }

    fn poke(&self) {
        self.address.do_send(changed());
    }

    /// Changes the spec and tells the poller.
    fn edit(&self, change: impl FnOnce(&mut serde_json::Value)) {
        self.bench.edit(change);
        self.poke();
    }

    /// The newest result of a poll.
    fn fact(&self) -> Option<PollFact> {
        self.status
            .facts()
            .into_iter()
            .rev()
            .find_map(|fact| if let Fact::Poll(fact) = fact { Some(fact) } else { None })
    }

    fn answered(&self) -> bool {
        self.fact() == Some(PollFact::Answered)
    }

    fn refused(&self) -> bool {
        matches!(self.fact(), Some(PollFact::Refused(_)))
    }

    /// The polls that found something new about the adapters; what else is told with them is not counted.
    fn observations(&self) -> usize {
        self.observed.got().iter().filter(|observed| observed.polled_at.is_some()).count()
    }

    /// The polls that came to an answer or gave up.
    fn ended_polls(&self) -> usize {
        self.server.polls().iter().filter(|poll| poll.ended.is_some()).count()
    }

    /// Waits for that many further polls that ended.
    async fn polls(&self, more: usize) {
        let wanted = self.ended_polls() + more;
        eventually("further polls", || self.ended_polls() >= wanted).await;
    }

    /// Writes of the credentials Secret.
    fn stores(&self) -> usize {
        self.bench.api.writes().iter().filter(|write| write.ends_with(CREDENTIALS)).count()
    }

    /// Type and state of the adapters that were observed last.
    fn states(&self) -> Vec<(String, AdapterState)> {
        let last = self.observed.last().expect("an observation");
        last.adapters.iter().map(|adapter| (adapter.adapter_type.clone(), adapter.state)).collect()
    }
}

/// Time between the starts of polls, in milliseconds.
fn gaps(polls: &[Record]) -> Vec<u128> {
    polls.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at).as_millis()).collect()
}
