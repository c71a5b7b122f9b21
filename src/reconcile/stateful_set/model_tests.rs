//! Random histories against a model of the StatefulSet controller.

use proptest::prelude::*;

use super::fixtures::{Sim, hash, running};
use super::{HashInput, Plan};
use crate::fixtures::server;
use crate::reconcile::ports::without_adapter_ports;

#[derive(Clone, Debug)]
enum Step {
    /// The adapters of the next valid answer.
    Ports(usize),
    Hash(u8),
    SecretMissing,
    Replicas(i32),
    RolloutRestart(u8),
    PodDeleted,
    Reconcile,
    Sync,
}

const ANSWERS: [&[(&str, u16)]; 4] =
    [&[("nfs", 12049), ("smb", 1445)], &[("nfs", 13049), ("smb", 1445)], &[("nfs", 12049)], &[]];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..ANSWERS.len()).prop_map(Step::Ports),
        1 => (1_u8..4).prop_map(Step::Hash),
        1 => Just(Step::SecretMissing),
        1 => (0..2).prop_map(Step::Replicas),
        1 => any::<u8>().prop_map(Step::RolloutRestart),
        1 => Just(Step::PodDeleted),
        6 => Just(Step::Reconcile),
        6 => Just(Step::Sync),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn ports_alone_never_start_a_pod_and_what_must_be_seen_is_rolled(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut sim = Sim::new(server("files").build());
        sim.hash = hash("h1");
        let mut last = 1;
        for step in steps {
            match step {
                Step::Ports(answer) => sim.adapters = Some(running(ANSWERS[answer])),
                Step::Hash(number) => {
                    last = number;
                    sim.hash = hash(&format!("h{number}"));
                }
                Step::SecretMissing => sim.hash = HashInput::Held,
                Step::Replicas(replicas) => sim.server.replicas = replicas,
                Step::RolloutRestart(at) if sim.live.is_some() => sim.rollout_restart(&at.to_string()),
                Step::RolloutRestart(_) => {}
                Step::PodDeleted => sim.pod = None,
                Step::Reconcile => drop(sim.reconcile()),
                Step::Sync => sim.sync(),
            }
        }
        // No further change of the hash: it would lift a hold that should not be there.
        let last = format!("h{last}");
        sim.hash = hash(&last);
        sim.server.replicas = 1;
        sim.settle();
        prop_assert_eq!(sim.rolled_for_ports_alone, 0);
        prop_assert!(matches!(sim.plan(), Plan::Nothing { .. }), "{:?}", sim.plan());
        prop_assert_eq!(sim.pod_base(), Some(without_adapter_ports(sim.template())));
        prop_assert_eq!(&sim.template()["metadata"]["annotations"]["dittofs.io/config-hash"], &last);
        let wanted: Option<Vec<_>> = sim.adapters.as_ref().map(|seen| {
            seen.iter().map(|a| (format!("adapter-{}", a.adapter_type), u64::from(a.port))).collect()
        });
        if let Some(wanted) = wanted {
            prop_assert_eq!(sim.declared(), wanted);
        }
        prop_assert_eq!(sim.is_held(), sim.pod_declares() != sim.declared(), "held exactly while the pod differs");
    }
}
