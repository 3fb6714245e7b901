//! What systemd is told (`Type=notify`): ready, reloading, going down, alive. Nothing where nobody asks (`NOTIFY_SOCKET`).

use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::interval;

/// Speaks from a thread of its own: a service manager that does not listen holds up nothing.
static MOUTH: LazyLock<Sender<Vec<NotifyState<'static>>>> = LazyLock::new(|| {
    let (say, said) = channel::<Vec<NotifyState<'static>>>();
    let speaking = thread::Builder::new().name("keyward-notify".to_owned()).spawn(move || {
        for states in said {
            if let Err(error) = sd_notify::notify(&states) {
                tracing::warn!(%error, "the service manager hears nothing");
            }
        }
    });
    if let Err(error) = speaking {
        tracing::warn!(%error, "the service manager is told nothing");
    }
    say
});

fn tell(states: &[NotifyState<'static>]) {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        // Where there is no thread to hear it, that was told.
        let _unheard = MOUTH.send(states.to_vec());
    }
}

/// It serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It reads its files anew, or hands over; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no time to tell the service manager"),
    }
}

/// It drains.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Another process serves from now on.
pub fn main_process(pid: u32) {
    tell(&[NotifyState::MainPid(pid), NotifyState::Ready]);
}

/// Says that it is alive, as often as it is asked to (`WatchdogSec=`): that the control plane goes on is what this shows.
pub async fn keep_alive() {
    let Some(within) = sd_notify::watchdog_enabled().filter(|within| !within.is_zero()) else { return };
    // Twice in the time, so that one that comes late is not too late.
    let mut beats = interval((within / 2).max(Duration::from_millis(1)));
    loop {
        beats.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}
