//! The orderly end: modules stopped, outbox and slots on disk, the fleet told that the device is offline.
//!
//! Limits: each step has a time limit, since a service manager kills what does not end.

use std::time::Duration;

use super::{Driver, Inputs, keeper::Job};
use crate::link::LinkEvent;

const MODULES: Duration = Duration::from_secs(4);
const DISK: Duration = Duration::from_secs(4);
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) async fn end(mut driver: Driver, mut inputs: Inputs) {
    tracing::info!("stopping");
    driver.notify.stopping();
    if tokio::time::timeout(MODULES, driver.works.stop_all()).await.is_err() {
        tracing::warn!("modules did not stop in time; they are killed with the agent");
    }
    driver.hand_over_records();
    let sinks = driver.gathered.borrow_mut().sinks.end();
    if tokio::time::timeout(DISK, sinks).await.is_err() {
        tracing::error!("the sinks did not take everything in time");
    }
    let flushed = driver.spool.flush();
    if tokio::time::timeout(DISK, flushed).await.is_err() {
        tracing::error!("the outbox was not written in time; records of the last moments are lost");
    }
    driver.keeper.give(Job::Time(driver.time_to_save()));
    let publishers = driver.publishers.end();
    driver.link.close();
    let farewell = async {
        while let Some(event) = inputs.link.recv().await {
            if let LinkEvent::Acked { token } = event {
                driver.spool.acked(token);
            }
        }
    };
    let farewell = async { tokio::join!(farewell, publishers) };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::warn!("the broker did not take the farewell; it will publish the last will");
    }
    // The threads end when what they were given is done.
    driver.capsules.close();
    let Driver { keeper, spool, .. } = driver;
    drop((keeper, spool));
    let kept = async {
        while inputs.keeper.recv().await.is_some() {}
        while inputs.spool.recv().await.is_some() {}
    };
    if tokio::time::timeout(DISK, kept).await.is_err() {
        tracing::error!("the disk did not take everything in time");
    }
}
