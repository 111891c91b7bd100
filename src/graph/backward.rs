//! The backward pass: appends the gradient nodes of what a graph holds, from the last node to the first.

use std::sync::Arc;

use super::builder::{Graph, Kind, Node, Tensor};
use crate::error::{Error, Result};
use crate::gpu::{Access, Format};
use crate::ops::add::Add;
use crate::ops::{Op, Tape, View};

impl Graph {
    /// Appends the gradient nodes of everything so far: `seed` is the gradient of `y` that the pass starts from.
    ///
    /// # Errors
    /// A parameter that `y` does not depend on; a value of which two overlapping parts have gradients of their own, which
    /// would have to be added up.
    pub fn backward(&mut self, y: View, seed: View) -> Result<()> {
        self.shared(Kind::Grads);
        self.grads.insert(y, seed);
        for i in (0..self.nodes.len()).rev() {
            self.differentiating = Some(i);
            let Node { op, operands, scope } = self.nodes[i].clone();
            let name = if scope.is_empty() { "grad".to_string() } else { format!("grad.{scope}") };
            self.scope(&name, |graph| op.gradient(graph, &operands));
        }
        self.differentiating = None;
        for a in self.grads.keys() {
            let overlaps =
                |b: &&View| a.tensor == b.tensor && a != *b && a.start < b.start + b.len && b.start < a.start + a.len;
            if self.grads.keys().any(|b| overlaps(&b)) {
                let name = &self.tensors[a.tensor.0 as usize].name;
                return Err(Error::model(format!("overlapping parts of `{name}` have gradients of their own"), ""));
            }
        }
        match self.layout.params().iter().find(|p| !self.grads.contains_key(&p.view)) {
            Some(p) => Err(Error::model(format!("no gradient reaches the parameter `{}`", p.name), "")),
            None => Ok(()),
        }
    }
}

impl Tape for Graph {
    fn grad(&self, y: View) -> Option<View> {
        // Of a part, that part of the whole's.
        let part = |(whole, grad): (&View, &View)| {
            let within = whole.start <= y.start && y.start + y.len <= whole.start + whole.len;
            (whole.tensor == y.tensor && within).then(|| grad.slice(y.start - whole.start, y.len))
        };
        self.grads.get(&y).copied().or_else(|| self.grads.iter().find_map(part))
    }

    fn grad_format(&self, x: View) -> Format {
        self.master(x).format
    }

    fn wants_grad(&self, x: View) -> bool {
        self.is_dependent(x.tensor)
    }

    fn temp(&mut self, name: &str, len: usize, format: Format) -> View {
        self.temp_as(name, len, format)
    }

    fn push(&mut self, op: Box<dyn Op>, operands: &[View]) {
        self.append(Arc::from(op), operands);
    }

    fn contribute(&mut self, x: View, op: Box<dyn Op>, operands: &[View]) {
        if !self.wants_grad(x) {
            return;
        }
        let x = self.master(x);
        let before = self.grads.get(&x).copied();
        let target = match before {
            Some(target) => target,
            None if self.tensors[x.tensor.0 as usize].kind == Kind::Params => {
                View { tensor: self.shared(Kind::Grads).tensor, ..x }
            }
            None => {
                let name = format!("d({})", self.tensors[x.tensor.0 as usize].name);
                self.root(Tensor { name, len: x.len, format: x.format, kind: Kind::Temp })
            }
        };
        self.grads.insert(x, target);
        let with = |target: View| operands.iter().copied().chain([target]).collect::<Vec<_>>();
        match (before, op.accumulating()) {
            (None, _) => self.append(Arc::from(op), &with(target)),
            (Some(_), Some(adding)) => self.append(Arc::from(adding), &with(target)),
            (Some(_), None) => {
                let part = self.temp_as("part", x.len, target.format);
                self.append(Arc::from(op), &with(part));
                self.append(Arc::new(Add { len: x.len, stored: target.format }), &[part, target]);
            }
        }
    }

    fn recomputed(&mut self, x: View) -> View {
        let (Some(node), Some(&again)) = (self.differentiating, self.dropped.get(&x.tensor)) else { return x };
        if let Some(tensor) = again {
            return View { tensor, ..x };
        }
        let Tensor { name, len, format, kind } = self.tensors[x.tensor.0 as usize].clone();
        let tensor = self.root(Tensor { name: format!("{name} again"), len, format, kind }).tensor;
        self.dropped.insert(x.tensor, Some(tensor));
        let writes = |node: &Node| {
            let args = node.op.args();
            args.iter().zip(&node.operands).any(|(arg, v)| arg.access == Access::ReadWrite && v.tensor == x.tensor)
        };
        let producers: Vec<Node> = self.nodes[..node].iter().filter(|node| writes(node)).cloned().collect();
        for Node { op, operands, .. } in producers {
            self.append(op, &operands);
        }
        View { tensor, ..x }
    }

    fn set_grad(&mut self, x: View, grad: View) {
        self.grads.insert(x, grad);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{CpuProgram, Init, Layout, Plan, cpu};
    use crate::ops::dropout::{Dropout, DropoutSite};
    use crate::ops::gemm::{self, Gemm};
    use crate::ops::reduce::SumRows;

    /// A graph over one parameter `p` of so many elements.
    fn graph_over(len: usize) -> (Graph, View) {
        let mut layout = Layout::new();
        let p = layout.param("p", &[len], Init::Zero);
        (Graph::new(Arc::new(layout)), p)
    }

    /// `(x[0] + x[1] + x[2]) * (sum of the three from `second`)` with its backward pass.
    fn product_of_sums(second: usize) -> Result<()> {
        let (mut graph, p) = graph_over(6);
        let x = graph.temp("x", 6);
        graph.apply(Dropout { len: 6, drop: DropoutSite::NONE, stored: Format::F32 }, &[p, x]);
        let sums = [0, second].map(|start| {
            let sum = graph.temp("sum", 1);
            graph.apply(SumRows::all(3, 1), &[x.slice(start, 3), sum]);
            sum
        });
        let y = graph.tensor("y", 1, Kind::Output);
        graph.apply(Gemm::new(gemm::Layout::NN, 1, 1, 1), &[sums[0], sums[1], y]);
        let seed = graph.tensor("seed", 1, Kind::Input);
        graph.backward(y, seed)
    }

    #[test]
    fn what_is_dropped_is_computed_again_once_and_gives_the_same_gradient() {
        // y = (a dropped copy of p) * (itself): its gradient reads the copy twice.
        let build = |recompute: bool| {
            let (mut graph, p) = graph_over(3);
            if recompute {
                graph.recompute();
            }
            let x = graph.temp("x", 3);
            graph.apply(Dropout { len: 3, drop: DropoutSite::NONE, stored: Format::F32 }, &[p, x]);
            graph.drop_after_forward(x);
            let y = graph.tensor("y", 1, Kind::Output);
            graph.apply(Gemm::new(gemm::Layout::NN, 1, 1, 3), &[x, x, y]);
            let seed = graph.tensor("seed", 1, Kind::Input);
            graph.backward(y, seed).unwrap();
            (Plan::compile("test", graph), seed)
        };
        let gradients = [false, true].map(|recompute| {
            let (plan, seed) = build(recompute);
            let copies = plan.nodes.iter().filter(|node| node.scope.is_empty() && node.op.name() == "dropout").count();
            let again = plan.tensors.iter().any(|tensor| tensor.name == "x again");
            assert_eq!((copies, again), if recompute { (1, true) } else { (1, false) });
            let dropouts = plan.nodes.iter().filter(|node| node.op.name() == "dropout").count();
            assert_eq!(dropouts, if recompute { 3 } else { 2 });
            let mut shared = cpu::shared::<f64>(&plan);
            shared[0][..3].copy_from_slice(&[1.0, -2.0, 0.5]);
            let mut program = CpuProgram::new(plan);
            program.get_mut(&mut shared, seed)[0] = 3.0;
            program.run(&mut shared, &crate::ops::Uniforms::default());
            shared[1].clone()
        });
        assert_eq!(gradients[0][..3], [6.0, -12.0, 3.0]);
        assert_eq!(gradients[0][..], gradients[1][..]);
    }

    #[test]
    fn overlapping_parts_with_gradients_are_refused() {
        let error = product_of_sums(1).unwrap_err();
        assert!(error.what.contains("overlapping parts of `x`"), "{error}");
    }

    #[test]
    fn a_parameter_without_a_gradient_is_refused() {
        // Parts that touch do not overlap; but nothing joins them to the whole of x, so the parameter is not reached.
        let error = product_of_sums(3).unwrap_err();
        assert!(error.what.contains("`p`"), "{error}");
    }
}
