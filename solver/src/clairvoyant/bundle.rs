//! What a tenant's inference may hold at once.

use super::Room;
use super::rush::Rush;

/// With more undominated bundles than this a tenant is taken to hold fractions of instances: a looser bound that is still one.
const MOST_BUNDLES: usize = 600;

/// What a tenant may hold at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Offer {
    /// Undominated sets of whole instances, the empty one included.
    Whole(Vec<Bundle>),
    /// Any fraction of any kind: capacity by kind.
    Fractions(Vec<f64>),
}

/// A set of instances.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bundle {
    /// Requests/s.
    pub rps: f64,
    /// Room it takes, by row.
    pub room: Vec<f64>,
}

/// Something to hold for one second: answers of worth 1 that it brings, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Deal {
    pub served: f64,
    pub cost: f64,
    /// Requests/s it holds, and the bundle or the kind it holds them with.
    pub rps: f64,
    pub what: u32,
}

impl Offer {
    /// All that is worth holding for at most `peak_rps`, capacities by kind.
    pub fn new(room: &Room, rps: &[f64], peak_rps: f64) -> Offer {
        let mut found = vec![Bundle { rps: 0.0, room: vec![0.0; room.most.len()] }];
        for (kind, &one) in rps.iter().enumerate().filter(|(_, one)| **one > 0.0) {
            let alpha = &room.kinds[kind];
            let mut grown = found.clone();
            for bundle in &found {
                let mut next = more(bundle, one, alpha);
                let enough = |bundle: &Bundle| bundle.rps - one >= peak_rps;
                while !enough(&next) && next.room.iter().zip(&room.most).all(|(used, most)| used <= most) {
                    grown.push(next.clone());
                    next = more(&next, one, alpha);
                }
            }
            found = undominated(grown, peak_rps);
            if found.len() > MOST_BUNDLES {
                return Offer::Fractions(rps.to_vec());
            }
        }
        Offer::Whole(found)
    }

    /// All that may be held in a second of this `rush` at these prices by row; of fractions, those at which the worth of more changes.
    pub fn deals(&self, room: &Room, prices: &[f64], rush: &Rush, deals: &mut Vec<Deal>) {
        deals.clear();
        match self {
            Offer::Whole(bundles) => deals.extend(bundles.iter().zip(0..).map(|(bundle, what)| {
                let cost = cost(prices, &bundle.room);
                Deal { served: rush.served(bundle.rps), cost, rps: bundle.rps, what }
            })),
            Offer::Fractions(rps) => {
                deals.push(Deal { served: rush.served(0.0), cost: 0.0, rps: 0.0, what: 0 });
                for (kind, &one) in rps.iter().enumerate().filter(|(_, one)| **one > 0.0) {
                    let price = cost(prices, &room.kinds[kind]) / one;
                    let deal = |rps: f64| Deal { served: rush.served(rps), cost: rps * price, rps, what: kind as u32 };
                    deals.extend(rush.corners().map(deal));
                }
            }
        }
    }

    /// Adds what `deal` takes to `used`, by row.
    pub fn add(&self, room: &Room, deal: &Deal, used: &mut [f64]) {
        match self {
            Offer::Whole(bundles) => used.iter_mut().zip(&bundles[deal.what as usize].room).for_each(|(sum, a)| *sum += a),
            Offer::Fractions(rps) => {
                let (kind, one) = (deal.what as usize, rps[deal.what as usize]);
                if deal.rps > 0.0 {
                    used.iter_mut().zip(&room.kinds[kind]).for_each(|(sum, a)| *sum += deal.rps / one * a);
                }
            }
        }
    }
}

/// The best of `deals` when an answer is worth `worth`: what it brings and its index.
pub(crate) fn best(deals: &[Deal], worth: f64) -> (f64, u32) {
    let mut best = (f64::NEG_INFINITY, 0);
    for (deal, index) in deals.iter().zip(0..) {
        let value = worth * deal.served - deal.cost;
        if value > best.0 {
            best = (value, index);
        }
    }
    best
}

/// Σ_r μ_r α_r.
pub(crate) fn cost(prices: &[f64], room: &[f64]) -> f64 {
    prices.iter().zip(room).map(|(price, alpha)| price * alpha).sum()
}

fn more(bundle: &Bundle, rps: f64, alpha: &[f64]) -> Bundle {
    Bundle { rps: bundle.rps + rps, room: bundle.room.iter().zip(alpha).map(|(used, a)| used + a).collect() }
}

/// Those that no other beats in capacity up to the peak while taking no more of any row.
fn undominated(mut all: Vec<Bundle>, peak_rps: f64) -> Vec<Bundle> {
    all.iter_mut().for_each(|bundle| bundle.rps = bundle.rps.min(peak_rps));
    // By falling capacity: only what comes before can beat.
    all.sort_by(|a, b| {
        let room = |bundle: &Bundle| bundle.room.iter().sum::<f64>();
        b.rps.total_cmp(&a.rps).then(room(a).total_cmp(&room(b)))
    });
    let mut kept: Vec<Bundle> = Vec::new();
    for bundle in all {
        let beaten = kept.iter().any(|other| other.room.iter().zip(&bundle.room).all(|(a, b)| a <= b));
        if !beaten {
            kept.push(bundle);
        }
    }
    kept
}
