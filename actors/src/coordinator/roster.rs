//! Tenants that come and go.

use actix::prelude::*;
use migrator_machine::coordinator::TenantPlanning;
use migrator_solver::{TenantFacts, TenantId};

use super::CoordinatorActor;
use crate::migration::TenantActors;
use crate::retraining::WindowStarted;

/// Looks at one tenant more, and plans for it from the next solve on.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Join {
    /// Its number: the next, or that of one that has left.
    pub tenant: TenantId,
    /// Its actors.
    pub actors: TenantActors,
    /// Name of its model.
    pub model: String,
    /// What is known of it.
    pub planning: TenantPlanning,
    /// What some policies know of it beforehand.
    pub facts: TenantFacts,
}

impl Handler<Join> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, message: Join, ctx: &mut Self::Context) {
        let Join { tenant, actors, model, planning, facts } = message;
        let (index, now) = (tenant.index(), self.now());
        tracing::info!(tenant = planning.name, "planned for from now on");
        self.machine.join(now, index, planning);
        let known = (index + 1).max(self.parts.tenants.len());
        self.parts.tenants.resize(known, None);
        self.parts.models.resize(known, String::new());
        self.parts.facts.tenants.resize(known, TenantFacts::default());
        let (window, ..) = self.machine.window(now);
        let begun = actors.retraining.send(WindowStarted { window });
        ctx.spawn(begun.into_actor(self).map(|result, _, _| {
            if let Err(error) = result {
                tracing::warn!(%error, "a new retraining did not hear of its window");
            }
        }));
        (self.parts.tenants[index], self.parts.models[index], self.parts.facts.tenants[index]) = (Some(actors), model, facts);
        self.roster_changed(ctx);
    }
}

/// Looks no longer at a tenant, and plans nothing for it.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Leave {
    /// Its number.
    pub tenant: TenantId,
}

impl Handler<Leave> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, message: Leave, ctx: &mut Self::Context) {
        let (index, now) = (message.tenant.index(), self.now());
        self.machine.leave(now, index);
        if let Some(actors) = self.parts.tenants.get_mut(index) {
            *actors = None;
        }
        if let Some(seen) = self.seen.as_mut().and_then(|seen| seen.tenants.get_mut(index)) {
            *seen = None;
        }
        self.roster_changed(ctx);
    }
}

impl CoordinatorActor {
    fn roster_changed(&mut self, ctx: &mut Context<Self>) {
        self.roster += 1;
        self.policy = None;
        self.pump(ctx);
        self.publish();
    }
}
