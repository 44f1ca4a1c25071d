//! Once a second: looks at every tenant, asks the solver, has plans carried out, publishes what is to be seen.

mod publish;
mod roster;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use migrator_device::Gpu;
use migrator_machine::coordinator::{CoordinatorConfig, TenantTick, Tick};
use migrator_machine::{CoordinatorMachine, CoordinatorWish, Time};
use migrator_solver::{Facts, Generation, InstanceState, Plan, Planner, Policy, Problem, SolveOptions, TenantId, policy};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::migration::{AskInventory, Inventory, Migrate, MigrationActor, TenantActors};
use crate::retraining::{AskRetraining, RetrainingSeen, WindowStarted};
use crate::tenant::{Collect, Collected};
use crate::view::{ReconfigurationView, Solved, View};

pub use roster::{Join, Leave};

/// What a [`CoordinatorActor`] is made of.
pub struct CoordinatorParts {
    /// How it plans.
    pub config: CoordinatorConfig,
    /// The server's clock.
    pub clock: Clock,
    /// The GPUs, in the order of the configuration's.
    pub gpus: Vec<Gpu>,
    /// Names of the models, by tenant.
    pub models: Vec<String>,
    /// By tenant; `None` where one has left.
    pub tenants: Vec<Option<TenantActors>>,
    /// Carries plans out.
    pub migration: Addr<MigrationActor>,
    /// Where the view goes.
    pub view: watch::Sender<Arc<View>>,
    /// What some policies know beforehand.
    pub facts: Facts,
}

/// Plans.
pub struct CoordinatorActor {
    parts: CoordinatorParts,
    machine: CoordinatorMachine,
    /// The last second, for the view.
    seen: Option<Seen>,
    /// The last solve that answered, and the last whose plan was carried out.
    solved: Option<Arc<Solved>>,
    changed: Option<Arc<Solved>>,
    history: Vec<ReconfigurationView>,
    reconfigurations: u64,
    /// A look at the tenants is under way.
    looking: bool,
    timer: Option<SpawnHandle>,
    /// Remembers what it has decided; elsewhere (`None`) while it decides.
    policy: Option<Box<dyn Policy>>,
    /// How often tenants have come or gone: what was asked before is about others.
    roster: u64,
}

/// One second of everything.
struct Seen {
    /// By tenant; `None` where one has left.
    tenants: Vec<Option<(Collected, RetrainingSeen)>>,
    inventory: Inventory,
}

/// Longest a look at all actors may take; past it the second is skipped.
const LOOK: Duration = Duration::from_secs(2);

impl CoordinatorActor {
    /// Nothing planned yet.
    pub fn new(parts: CoordinatorParts) -> CoordinatorActor {
        let machine = CoordinatorMachine::new(parts.config.clone(), Generation(0));
        CoordinatorActor {
            parts,
            machine,
            seen: None,
            solved: None,
            changed: None,
            history: Vec::new(),
            reconfigurations: 0,
            looking: false,
            timer: None,
            policy: None,
            roster: 0,
        }
    }

    fn now(&self) -> Time {
        self.parts.clock.now()
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.looking, true) {
            tracing::warn!("the last look at the tenants is not over; this second is skipped");
            return;
        }
        // A window that begins now begins first: what it supersedes is not to be planned for.
        self.machine.handle_timeout(self.now());
        self.pump(ctx);
        let look = look(self.parts.tenants.clone(), self.parts.migration.clone());
        let look = tokio::time::timeout(LOOK, look);
        let roster = self.roster;
        ctx.spawn(look.into_actor(self).map(move |seen, actor, ctx| {
            actor.looking = false;
            match seen {
                Ok(Ok(_)) if actor.roster != roster => actor.look(ctx),
                Ok(Ok(seen)) => actor.take_in(seen, ctx),
                Ok(Err(error)) => tracing::warn!(%error, "an actor did not answer"),
                Err(_) => tracing::warn!("the actors did not answer in time"),
            }
        }));
    }

    fn take_in(&mut self, seen: Seen, ctx: &mut Context<Self>) {
        let tick = self.tick_of(&seen);
        self.seen = Some(seen);
        self.machine.tick(self.now(), &tick);
        self.pump(ctx);
        self.publish();
    }

    fn tick_of(&self, seen: &Seen) -> Tick {
        let on = |gpu: &Gpu| -> Vec<InstanceState> {
            seen.inventory.items.iter().filter(|item| item.gpu == gpu.index).map(|item| item.state.clone()).collect()
        };
        let instances = self.parts.gpus.iter().map(on).collect();
        let tick = |(collected, retraining): &(Collected, RetrainingSeen)| TenantTick {
            telemetry: collected.telemetry.clone(),
            retraining: retraining.status.clone(),
        };
        let tenants = seen.tenants.iter().map(|tenant| tenant.as_ref().map(tick).unwrap_or_default()).collect();
        Tick { tenants, instances }
    }

    fn pump(&mut self, ctx: &mut Context<Self>) {
        while let Some(wish) = self.machine.poll(self.now()) {
            match wish {
                CoordinatorWish::Solve { problem, previous, options } => self.solve(problem, previous, options, ctx),
                CoordinatorWish::Execute { problem, plan, transition } => {
                    self.execute(Migrate { problem, plan, transition }, ctx);
                }
                CoordinatorWish::StartWindow { window } => self.start_window(window, ctx),
            }
        }
        for violation in self.machine.check() {
            crate::meter::violation(&violation);
        }
        for decision in self.machine.take_decisions() {
            tracing::info!(target: "migrator::decision", "{decision}");
        }
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = self.machine.timeout() {
            self.timer = Some(ctx.run_later(self.parts.clock.until(at), |actor, ctx| {
                actor.timer = None;
                actor.machine.handle_timeout(actor.now());
                actor.pump(ctx);
            }));
        }
    }

    /// The configured policy, which has decided nothing yet. One that a live server cannot have was refused with the configuration.
    fn fresh_policy(&self) -> Box<dyn Policy> {
        policy(self.parts.config.policy, &self.parts.facts).unwrap_or_else(|_| Box::new(Planner::default()))
    }

    fn solve(&mut self, problem: Box<Problem>, previous: Option<Plan>, options: SolveOptions, ctx: &mut Context<Self>) {
        let (generation, roster) = (options.generation, self.roster);
        let mut policy = self.policy.take().unwrap_or_else(|| self.fresh_policy());
        let solve = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let result = policy.plan(&problem, previous.as_ref(), &options, Some(&mut || began.elapsed().as_secs_f64()));
            let result = result.map_err(|error| crate::launcher::one_line(&error));
            let solve_ms = began.elapsed().as_secs_f64() * 1000.0;
            // The problem goes into the view with its outcome.
            (result.map(|outcome| Solved { at_s: 0.0, problem: *problem, options, outcome }), solve_ms, Some(policy))
        });
        ctx.spawn(solve.into_actor(self).map(move |joined, actor, ctx| {
            let failed = |error| (Err(format!("the solver panicked: {error}")), 0.0, None);
            let (result, solve_ms, policy) = joined.unwrap_or_else(failed);
            // What it remembers is of the tenants of then.
            actor.policy = policy.filter(|_| actor.roster == roster);
            actor.solved(generation, result, solve_ms, ctx);
        }));
    }

    fn solved(&mut self, generation: Generation, result: Result<Solved, String>, solve_ms: f64, ctx: &mut Context<Self>) {
        let result = match result {
            Ok(mut solved) => {
                solved.outcome.report.solve_ms = solve_ms;
                solved.at_s = self.now().as_secs();
                crate::meter::solved(&solved.outcome.report);
                let outcome = solved.outcome.clone();
                self.solved = Some(Arc::new(solved));
                Ok(outcome)
            }
            Err(reason) => {
                crate::meter::unsolved();
                tracing::warn!(generation = generation.0, reason, "no plan; the one in force stays");
                Err(reason)
            }
        };
        self.machine.solved(self.now(), generation, result, solve_ms);
        self.pump(ctx);
    }

    fn execute(&mut self, migrate: Migrate, ctx: &mut Context<Self>) {
        let generation = migrate.plan.generation;
        let (from, to) = (self.partition_text(), self.text_of(&migrate.plan));
        tracing::info!(generation = generation.0, from, to, steps = migrate.transition.steps.len(), "reconfiguration begins");
        tracing::debug!("{}", migrate.transition.describe(&migrate.problem));
        let changing = self.solved.clone().filter(|solved| solved.outcome.plan.generation == generation);
        let send = self.parts.migration.send(migrate);
        ctx.spawn(send.into_actor(self).map(move |result, actor, ctx| {
            match result.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(report) => {
                    actor.changed = changing.or(actor.changed.take());
                    tracing::info!(
                        generation = generation.0,
                        took_s = report.took_s,
                        lost_s = report.lost_s,
                        idle_slice_s = report.idle_slice_s,
                        "reconfiguration done"
                    );
                    actor.remember(&report, from, to);
                    actor.machine.migrated(actor.now(), &report);
                    // What is ready now need not wait for the next second to be seen.
                    actor.look(ctx);
                }
                Err(reason) => actor.machine.refused(actor.now(), generation, &reason),
            }
            actor.pump(ctx);
        }));
    }

    fn start_window(&mut self, window: u64, ctx: &mut Context<Self>) {
        tracing::info!(window, "retraining window begins");
        for actors in self.parts.tenants.iter().flatten() {
            let send = actors.retraining.send(WindowStarted { window });
            ctx.spawn(send.into_actor(self).map(|result, _, _| {
                if let Err(error) = result {
                    tracing::warn!(%error, "a retraining did not hear of its window");
                }
            }));
        }
    }
}

impl Actor for CoordinatorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look(ctx);
        ctx.run_interval(Duration::from_secs(1), |actor, ctx| actor.look(ctx));
    }
}

async fn look(tenants: Vec<Option<TenantActors>>, migration: Addr<MigrationActor>) -> Result<Seen, MailboxError> {
    // Sent to all before any is awaited.
    let ask = |actors: &TenantActors| (actors.tenant.send(Collect), actors.retraining.send(AskRetraining));
    let asked: Vec<_> = tenants.iter().map(|actors| actors.as_ref().map(ask)).collect();
    let inventory = migration.send(AskInventory);
    let mut seen = Vec::with_capacity(asked.len());
    for asked in asked {
        seen.push(match asked {
            Some((tenant, retraining)) => Some((tenant.await?, retraining.await?)),
            None => None,
        });
    }
    Ok(Seen { tenants: seen, inventory: inventory.await? })
}

/// Plans for a tenant differently from the next solve on.
#[derive(Clone, Copy, Debug, PartialEq, Message)]
#[rtype(result = "()")]
pub struct Retune {
    /// Its number.
    pub tenant: TenantId,
    /// Its SLO, milliseconds.
    pub slo_ms: f64,
    /// Worth of its good answers.
    pub weight: f64,
    /// Fewest requests/s it keeps.
    pub floor_rps: f64,
}

impl Handler<Retune> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, message: Retune, _: &mut Self::Context) {
        self.machine.retune(message.tenant.index(), message.slo_ms, message.weight, message.floor_rps);
    }
}

/// No further plans: the server is going down.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Halt;

impl Handler<Halt> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
