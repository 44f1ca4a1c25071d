//! What a tenant may ask of the front at once and per second: beyond it 429, whatever capacity there is.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use arc_swap::ArcSwapOption;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, RateLimiter};
use tokio::sync::Notify;

use super::error::ApiError;

/// A tenant's quota.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quota {
    /// Requests a second; `None` = as many as can be answered.
    pub rate_rps: Option<f64>,
    /// Requests at once that the rate allows after a pause; `None` = one second's.
    pub burst: Option<u32>,
    /// Requests without an answer; `None` = no bound but the queue's.
    pub concurrency: Option<u32>,
}

/// Lets a tenant's requests in, by its quota; the quota can be changed at any time.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// The last one set.
    quota: Mutex<Quota>,
    rate: ArcSwapOption<DefaultDirectRateLimiter>,
    /// 0 = no bound.
    most: AtomicU32,
    within: AtomicU32,
    /// Told whenever nothing is within.
    empty: Notify,
    closed: AtomicBool,
}

/// A request that was let in; dropped when it is answered or given up.
#[derive(Debug)]
pub(crate) struct Permit<'g>(&'g Gate);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.0.within.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.empty.notify_waiters();
        }
    }
}

impl Gate {
    /// Goes by this quota from now on; what a rate that stays has let in already is not forgotten.
    pub fn set(&self, quota: Quota) {
        let mut before = self.quota.lock().unwrap_or_else(PoisonError::into_inner);
        if (before.rate_rps, before.burst) != (quota.rate_rps, quota.burst) {
            self.rate.store(quota.limiter().map(Arc::new));
        }
        self.most.store(quota.concurrency.unwrap_or(0), Ordering::Relaxed);
        *before = quota;
    }

    /// Lets nothing in any more; resolves when nothing is within.
    pub async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        loop {
            let empty = self.empty.notified();
            if self.within.load(Ordering::SeqCst) == 0 {
                return;
            }
            empty.await;
        }
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// 429 with when to try again; 404 once it is closed.
    pub fn enter(&self, tenant: &str) -> Result<Permit<'_>, ApiError> {
        let within = self.within.fetch_add(1, Ordering::SeqCst);
        let permit = Permit(self);
        // Looked at after it is counted, so that whoever closes the gate waits for it or it is refused.
        if self.closed.load(Ordering::SeqCst) {
            return Err(ApiError::not_found(format!("tenant {tenant:?} is served no longer")));
        }
        let most = self.most.load(Ordering::Relaxed);
        if most > 0 && within >= most {
            return Err(refused(tenant, "concurrency", Duration::from_secs(1), format!("{most} requests are in work already")));
        }
        let rate = self.rate.load();
        let Some(rate) = rate.as_ref() else { return Ok(permit) };
        match rate.check() {
            Ok(()) => Ok(permit),
            Err(early) => {
                let wait = early.wait_time_from(DefaultClock::default().now());
                Err(refused(tenant, "rate", wait, "too many requests a second".to_owned()))
            }
        }
    }
}

fn refused(tenant: &str, quota: &'static str, retry_after: Duration, why: String) -> ApiError {
    metrics::counter!("migrator_over_quota_total", "tenant" => tenant.to_owned(), "quota" => quota).increment(1);
    let message = format!("tenant {tenant:?} is over its quota: {why}; retry in {} ms", retry_after.as_millis());
    ApiError { status: StatusCode::TOO_MANY_REQUESTS, message, retry_after: Some(retry_after) }
}

impl Quota {
    fn limiter(self) -> Option<DefaultDirectRateLimiter> {
        let rate = self.rate_rps?;
        let burst = self.burst.unwrap_or(rate.ceil() as u32).max(1);
        let quota = governor::Quota::with_period(Duration::from_secs_f64(1.0 / rate))?;
        Some(RateLimiter::direct(quota.allow_burst(NonZeroU32::new(burst)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_are_let_in_at_once() {
        let gate = Gate::default();
        gate.set(Quota { concurrency: Some(2), ..Quota::default() });
        let (first, _second) = (gate.enter("a").unwrap(), gate.enter("a").unwrap());
        let refused = gate.enter("a").unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (429, Some(Duration::from_secs(1))));
        drop(first);
        assert!(gate.enter("a").is_ok(), "a refusal holds no place");
    }

    #[tokio::test]
    async fn a_closed_gate_waits_for_those_within_and_lets_nobody_in() {
        let gate = Gate::default();
        let within = gate.enter("a").unwrap();
        let closing = gate.close();
        futures::pin_mut!(closing);
        assert!(futures::poll!(&mut closing).is_pending());
        assert_eq!(gate.enter("a").unwrap_err().status.as_u16(), 404);
        assert!(futures::poll!(&mut closing).is_pending());
        drop(within);
        closing.await;
    }

    #[test]
    fn a_burst_is_let_in_and_then_only_the_rate() {
        let gate = Gate::default();
        // One in a thousand seconds: the test cannot be slow enough for the next.
        gate.set(Quota { rate_rps: Some(0.001), burst: Some(3), ..Quota::default() });
        let let_in = (0..5).filter(|_| gate.enter("a").is_ok()).count();
        assert_eq!(let_in, 3);
        let refused = gate.enter("a").unwrap_err();
        assert!(refused.retry_after.unwrap() > Duration::from_secs(900) && refused.message.contains("tenant \"a\" is over its quota"));
        gate.set(Quota { rate_rps: Some(0.001), burst: Some(3), concurrency: Some(9) });
        assert!(gate.enter("a").is_err(), "the same rate set again is no new burst");
        gate.set(Quota::default());
        assert!(gate.enter("a").is_ok(), "a quota can be lifted");
    }
}
