//! SGD and Adam over plain tensors: unlike libtorch's own, their state can be kept in a checkpoint, and nothing panics.

use tch::Tensor;

use crate::TorchError;

/// Gradients longer than this (L2, all parameters together) are scaled down to it.
const MAX_NORM: f64 = 5.0;
/// Momentum of SGD.
const MOMENTUM: f64 = 0.9;
/// Decay of Adam's mean of gradients (Kingma and Ba 2015, algorithm 1).
const BETA1: f64 = 0.9;
/// Decay of Adam's mean of squares.
const BETA2: f64 = 0.999;
/// Adam's guard against division by zero.
const EPSILON: f64 = 1e-8;

/// Which rule turns gradients into steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Momentum 0.9; for deep convolutional networks with batch norm.
    Sgd,
    /// For all others.
    Adam,
}

/// An optimizer and its state.
#[derive(Debug)]
pub(crate) struct Optimizer {
    rule: Rule,
    rate: f64,
    parameters: Vec<(String, Tensor)>,
    /// Per parameter: SGD's velocity, or Adam's two means.
    state: Vec<Vec<Tensor>>,
}

impl Optimizer {
    pub(crate) fn new(rule: Rule, rate: f64, parameters: Vec<(String, Tensor)>) -> Result<Optimizer, TorchError> {
        let count = if rule == Rule::Sgd { 1 } else { 2 };
        let zeros = |tensor: &Tensor| (0..count).map(|_| Ok(tensor.f_detach()?.f_zeros_like()?)).collect();
        let state = parameters.iter().map(|(_, tensor)| zeros(tensor)).collect::<Result<_, TorchError>>()?;
        Ok(Optimizer { rule, rate, parameters, state })
    }

    /// The state by name, for a checkpoint.
    pub(crate) fn state(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let named = self.parameters.iter().zip(&self.state);
        named.flat_map(|((name, _), state)| state.iter().enumerate().map(move |(index, tensor)| (format!("state.{index}.{name}"), tensor)))
    }

    /// Does step number `step` (from 1) down the gradient of `loss`. `false` when the gradient is NaN or infinite: nothing changed.
    pub(crate) fn step(&mut self, loss: &Tensor, step: u64) -> Result<bool, TorchError> {
        let tensors: Vec<&Tensor> = self.parameters.iter().map(|(_, tensor)| tensor).collect();
        let mut gradients = Tensor::f_run_backward(&[loss], &tensors, false, false)?;
        let _no_grad = tch::no_grad_guard();
        // A parameter the loss does not depend on has no gradient.
        let norms = gradients.iter().filter(|g| g.defined()).map(Tensor::f_norm).collect::<Result<Vec<_>, _>>()?;
        if norms.is_empty() {
            return Err(TorchError::BadModel("the loss depends on no parameter of this model".to_owned()));
        }
        let norm = Tensor::f_stack(&norms, 0)?.f_norm()?.f_double_value(&[])?;
        if !norm.is_finite() {
            return Ok(false);
        }
        let (rule, rate) = (self.rule, self.rate);
        for (((_, parameter), state), gradient) in self.parameters.iter_mut().zip(&mut self.state).zip(&mut gradients) {
            if !gradient.defined() {
                continue;
            }
            if norm > MAX_NORM {
                let _ = gradient.f_mul_scalar_(MAX_NORM / norm)?;
            }
            match rule {
                Rule::Sgd => sgd(parameter, state, gradient, rate)?,
                Rule::Adam => adam(parameter, state, gradient, rate, step)?,
            }
        }
        Ok(true)
    }
}

/// v ← 0.9 v − rate g; p ← p + v.
fn sgd(parameter: &mut Tensor, state: &mut [Tensor], gradient: &mut Tensor, rate: f64) -> Result<(), TorchError> {
    let velocity = &mut state[0];
    let _ = velocity.f_mul_scalar_(MOMENTUM)?.f_sub_(&gradient.f_mul_scalar_(rate)?)?;
    let _ = parameter.f_add_(velocity)?;
    Ok(())
}

/// m ← lerp(m, g, 1 − β₁); v ← lerp(v, g², 1 − β₂); p ← p − rate m̂ / (√v̂ + ε).
fn adam(parameter: &mut Tensor, state: &mut [Tensor], gradient: &Tensor, rate: f64, step: u64) -> Result<(), TorchError> {
    let (first, second) = state.split_at_mut(1);
    let _ = first[0].f_lerp_(gradient, 1.0 - BETA1)?;
    let _ = second[0].f_lerp_(&gradient.f_square()?, 1.0 - BETA2)?;
    let unbiased = |beta: f64| 1.0 - beta.powi(i32::try_from(step).unwrap_or(i32::MAX));
    let mut scale = second[0].f_sqrt()?;
    let scale = scale.f_div_scalar_(unbiased(BETA2).sqrt())?.f_add_scalar_(EPSILON)?;
    let _ = parameter.f_sub_(&first[0].f_mul_scalar(rate / unbiased(BETA1))?.f_div_(&scale)?)?;
    Ok(())
}
