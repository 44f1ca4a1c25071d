//! How much demand there is when: every tenant has its turn to burst, and the rest leaves the machine room to follow.

use migrator_models::synthetic::Kind;

use super::seen::Seen;

/// Seconds that a burst lasts before the next tenant has its turn.
pub(super) const TURN_S: f64 = 10.0;
/// Share of the whole machine that the bursting tenant needs: more than the third that a fixed partition would give it.
const BURST: f64 = 0.42;
/// Share that each other tenant needs; with three tenants this makes 0.56 in all, the rest is for retraining.
const QUIET: f64 = 0.07;
/// Turns differ in height by up to this much, so that no two look the same.
const UNEVEN: f64 = 0.15;
/// Most requests/s in all, per core of the host: parsing, answering and sending them costs a few tenths of a millisecond each, on the
/// cores that the device leaves free.
const FRONT_RPS_PER_CORE: f64 = 400.0;

/// The demand of one tenant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Demand {
    /// What is sent.
    pub kind: Kind,
    /// Its place in the order of bursts, of how many.
    pub turn: (usize, usize),
    /// Requests/s that the whole machine could answer if it had nothing else to do, after all limits.
    pub whole_rps: f64,
}

impl Demand {
    /// Requests/s at `at_s` seconds after the start.
    pub(super) fn rps(&self, at_s: f64) -> f64 {
        let turn = (at_s.max(0.0) / TURN_S) as u64;
        let (own, of) = self.turn;
        let share = if turn % of as u64 == own as u64 { BURST } else { QUIET };
        // A fixed pattern in -1..=1 with a period of 7 turns.
        let uneven = ((turn * 5 + own as u64 * 3) % 7) as f64 / 3.0 - 1.0;
        share * self.whole_rps * (1.0 + UNEVEN * uneven)
    }
}

/// Demand that fits this host: from the capacity that the server reports for the slices each tenant has now, and no more than the
/// front can take: a model so cheap that parsing its requests costs more than answering them cannot fill the machine.
///
/// # Errors
/// When a tenant has no capacity yet.
pub(super) fn fit(seen: &Seen, kinds: &[Kind], cores: f64, scale: Option<f64>) -> Result<Vec<Demand>, String> {
    let share = BURST + QUIET * kinds.len().saturating_sub(1) as f64;
    let most = FRONT_RPS_PER_CORE * cores / share;
    let demand = |(turn, &kind): (usize, &Kind)| {
        let whole_rps = whole_rps(seen, kind.name())?.min(most) * scale.unwrap_or(1.0);
        Ok(Demand { kind, turn: (turn, kinds.len()), whole_rps })
    };
    kinds.iter().enumerate().map(demand).collect()
}

/// What the tenant could answer on all 7 compute slices.
fn whole_rps(seen: &Seen, name: &str) -> Result<f64, String> {
    let tenant = seen.tenants.iter().find(|tenant| tenant.name == name).ok_or_else(|| format!("the server has no tenant {name}"))?;
    let slices = seen.slices(name);
    if tenant.capacity_rps <= 0.0 || slices == 0 {
        return Err(format!("tenant {name} has no capacity yet"));
    }
    Ok(tenant.capacity_rps * 7.0 / f64::from(slices))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::seen::{Gpu, Instance, Tenant};

    fn seen(capacities: &[(&str, f64, &str)]) -> Seen {
        let tenant = |&(name, capacity_rps, _): &(&str, f64, &str)| Tenant { name: name.into(), capacity_rps, ..Tenant::default() };
        let instance = |&(name, _, profile): &(&str, f64, &str)| Instance {
            profile: profile.into(),
            tenant: Some(name.into()),
            task: Some("inference".into()),
        };
        let gpu = Gpu { text: String::new(), instances: capacities.iter().map(instance).collect() };
        Seen { tenants: capacities.iter().map(tenant).collect(), gpus: vec![gpu], ..Seen::default() }
    }

    #[test]
    fn each_tenant_bursts_in_its_turn_and_the_machine_has_room() {
        let seen = seen(&[("vision", 200.0, "3g.20gb"), ("sensor", 300.0, "2g.10gb"), ("text", 100.0, "1g.5gb")]);
        let demands = fit(&seen, &Kind::ALL, 64.0, None).unwrap();
        for turn in 0..30 {
            let shares: Vec<f64> = demands.iter().map(|d| d.rps(f64::from(turn) * TURN_S + 5.0) / d.whole_rps).collect();
            let total: f64 = shares.iter().sum();
            let most = (0..3).max_by(|&a, &b| shares[a].total_cmp(&shares[b])).unwrap();
            assert_eq!(most, turn as usize % 3);
            assert!(shares[most] > 1.0 / 3.0, "{shares:?}");
            assert!((0.45..0.7).contains(&total), "{shares:?}");
        }
    }

    #[test]
    fn the_front_limits_the_demand() {
        let seen = seen(&[("sensor", 70_000.0, "7g.40gb"), ("text", 7.0, "7g.40gb")]);
        let demands = fit(&seen, &[Kind::Sensor, Kind::Text], 2.0, None).unwrap();
        assert!((demands[0].whole_rps * (BURST + QUIET) - 2.0 * FRONT_RPS_PER_CORE).abs() < 1.0, "{demands:?}");
        assert_eq!(demands[1].whole_rps, 7.0, "an expensive model keeps its demand");
        assert_eq!(fit(&seen, &[Kind::Text], 2.0, Some(2.0)).unwrap()[0].whole_rps, 14.0);
    }

    #[test]
    fn a_tenant_without_capacity_is_named() {
        assert!(fit(&seen(&[("text", 0.0, "1g.5gb")]), &[Kind::Text], 2.0, None).unwrap_err().contains("text"));
    }
}
