//! Which tenant has which number. A number stays a tenant's until the last of its workers is gone; then another one may have it.

use migrator_actors::migration::TenantActors;
use migrator_solver::TenantId;

/// The numbers given out so far.
#[derive(Default)]
pub(super) struct Seats(Vec<Option<Seat>>);

struct Seat {
    name: String,
    actors: TenantActors,
    leaving: bool,
}

impl Seats {
    /// Those of the start, in order.
    pub fn of(tenants: impl Iterator<Item = (String, TenantActors)>) -> Seats {
        Seats(tenants.map(|(name, actors)| Some(Seat { name, actors, leaving: false })).collect())
    }

    /// Everybody's actors, those that leave included.
    pub fn actors(&self) -> Vec<TenantActors> {
        self.0.iter().flatten().map(|seat| seat.actors.clone()).collect()
    }

    /// Those who are served, by number.
    pub fn numbered(&self) -> Vec<(TenantId, TenantActors)> {
        let seats = self.0.iter().enumerate().filter_map(|(index, seat)| Some((TenantId(index as u16), seat.as_ref()?)));
        seats.filter(|(_, seat)| !seat.leaving).map(|(id, seat)| (id, seat.actors.clone())).collect()
    }

    /// Who is served under a name.
    pub fn find(&self, name: &str) -> Option<(TenantId, TenantActors)> {
        let seats = self.0.iter().enumerate();
        let mut found =
            seats.filter_map(|(index, seat)| seat.as_ref().filter(|seat| seat.name == name && !seat.leaving).map(|s| (index, s)));
        found.next().map(|(index, seat)| (TenantId(index as u16), seat.actors.clone()))
    }

    /// Whether one of this name is still on its way out.
    pub fn leaving(&self, name: &str) -> bool {
        self.0.iter().flatten().any(|seat| seat.leaving && seat.name == name)
    }

    /// This many numbers that are nobody's, the lowest first.
    pub fn free(&self, count: usize) -> Vec<TenantId> {
        let numbers = (0..).filter(|index| self.0.get(*index).is_none_or(Option::is_none));
        numbers.take(count).map(|index| TenantId(index as u16)).collect()
    }

    /// Gives a number to a tenant.
    pub fn join(&mut self, id: TenantId, name: &str, actors: TenantActors) {
        self.0.resize_with((id.index() + 1).max(self.0.len()), || None);
        self.0[id.index()] = Some(Seat { name: name.to_owned(), actors, leaving: false });
    }

    /// A tenant is on its way out.
    pub fn leave(&mut self, id: TenantId) {
        if let Some(seat) = self.0.get_mut(id.index()).and_then(Option::as_mut) {
            seat.leaving = true;
        }
    }

    /// A number is nobody's any more.
    pub fn vacate(&mut self, id: TenantId) {
        if let Some(seat) = self.0.get_mut(id.index()) {
            *seat = None;
        }
    }
}
