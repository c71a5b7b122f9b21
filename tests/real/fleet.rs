//! Twenty servers at once: those whose API hangs cost the others nothing, and when nothing changes nothing is written.

use std::time::{Duration, Instant, SystemTime};

use dittofs_testbed::audit::Expect;
use dittofs_testbed::dittofs::{Mode, Scope};
use serde_json::json;

use crate::support::Bed;

const SERVERS: usize = 20;
/// The first so many are made to hang.
const HUNG: usize = 2;
const NFS_AND_SMB: [&str; 2] = ["nfs", "smb"];
const LONG: Duration = Duration::from_mins(2);

fn name(number: usize) -> String {
    format!("files-{number:02}")
}

/// Waits until each server but the hung ones has just these adapter Services, with one LIST a look for all of them.
async fn wait_services(bed: &Bed, from: usize, kinds: &[&str]) {
    let wanted: Vec<(String, String)> =
        (from..SERVERS).flat_map(|n| kinds.iter().map(move |kind| (name(n), (*kind).to_owned()))).collect();
    bed.world
        .wait_until(&format!("{kinds:?} at every server"), LONG, async || {
            let selector = "dittofs.io/adapter-service=true";
            let services = bed.world.namespace().list(dittofs_testbed::cluster::resources::SERVICES, selector).await;
            let label = |service: &serde_json::Value, label: &str| {
                service["metadata"]["labels"][label].as_str().unwrap_or_default().to_owned()
            };
            let mut found: Vec<_> = services
                .map_err(|error| error.to_string())?
                .iter()
                .map(|service| (label(service, "instance"), label(service, "dittofs.io/adapter-type")))
                .collect();
            found.sort();
            if found == wanted { Ok(()) } else { Err(format!("{} of {}", found.len(), wanted.len())) }
        })
        .await
        .expect("the Services follow");
}

/// How long creating the servers took until all (but the hung) had their Services, and a stop until all had followed.
async fn run(bed: &Bed, hung: usize) -> (Duration, Duration) {
    for number in 0..hung {
        bed.dittofs(&name(number)).set_mode(Mode::Hang, Scope::All);
    }
    let start = Instant::now();
    let spec = json!({"adapterDiscovery": {"pollingInterval": "2s"}});
    for number in 0..SERVERS {
        bed.world.apply_server(&name(number), &spec).await.expect("the server is accepted");
    }
    wait_services(bed, hung, &NFS_AND_SMB).await;
    let created = start.elapsed();
    for number in hung..SERVERS {
        bed.world.wait_ready(&name(number)).await.expect("it becomes ready");
    }
    let start = Instant::now();
    for number in hung..SERVERS {
        bed.dittofs(&name(number)).stop_adapter("smb");
    }
    wait_services(bed, hung, &NFS_AND_SMB[..1]).await;
    (created, start.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hanging_servers_of_twenty_make_the_others_no_slower_and_a_quiet_fleet_writes_nothing() {
    // Side by side, so that whatever else the machine is at slows both alike.
    let (bed, with_hung_bed) = (Bed::new("fleet").await, Bed::new("fleet-hung").await);
    let (sound, with_hung) = tokio::join!(run(&bed, 0), run(&with_hung_bed, HUNG));
    with_hung_bed.finish(SERVERS).await;
    println!("created and stopped: {sound:?} with sound servers, {with_hung:?} with {HUNG} that hang");
    // Generous all the same; one timeout of 10 s that anybody waits for is seen.
    let bound = |time: Duration| time * 3 + Duration::from_secs(4);
    assert!(with_hung.0 < bound(sound.0), "creation: {:?}, {:?} without", with_hung.0, sound.0);
    assert!(with_hung.1 < bound(sound.1), "a stop: {:?}, {:?} without", with_hung.1, sound.1);

    // What the stop itself asks for is done when the status says so.
    for number in 0..SERVERS {
        bed.world
            .wait_server(&name(number), "to say that smb has stopped", LONG, |server| {
                let told = server["status"]["activeAdapters"] == "nfs";
                let rolled = dittofs_testbed::world::condition(server, "PortsRolledOut").cloned().unwrap_or_default();
                if told && rolled["status"] == "False" { Ok(()) } else { Err(server["status"].to_string()) }
            })
            .await
            .expect("the status follows");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let from = SystemTime::now();
    // Quiet is shown by nothing happening, for as long as the promise says.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let quiet = vec![(from, SystemTime::now())];
    bed.finish_with(Expect { pod_starts: Some(SERVERS), quiet, ..Expect::default() }).await;
}
