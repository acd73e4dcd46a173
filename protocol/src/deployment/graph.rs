//! Modules that are given what others emit: every such channel is there, and no module waits for itself.

use std::collections::BTreeSet;

use super::{Deployment, DeploymentError, Module, Source};

impl Deployment {
    /// Holds the inputs that are channels of other modules to what there is.
    pub(super) fn check_graph(&self) -> Result<(), DeploymentError> {
        for module in &self.modules {
            for input in &module.input {
                if let Source::Channel { module: from, channel } = &input.source
                    && !self.modules.iter().any(|other| other.name == *from && other.channels.contains_key(channel))
                {
                    return Err(DeploymentError::NoChannel {
                        module: module.name.clone(),
                        input: input.source.to_string(),
                    });
                }
            }
        }
        self.check_sinks()?;
        match self.cycle() {
            Some(path) => Err(DeploymentError::Cycle { path: path.join(" -> ") }),
            None => Ok(()),
        }
    }

    /// Records that go nowhere are an oversight, unless another module is given them.
    fn check_sinks(&self) -> Result<(), DeploymentError> {
        for module in &self.modules {
            for (channel, policy) in &module.channels {
                if policy.sink.names().next().is_none() && self.takers(&module.name, channel).next().is_none() {
                    return Err(DeploymentError::Channel {
                        module: module.name.clone(),
                        channel: channel.clone(),
                        problem: "has no sink, and no other module has it as an input; name a sink, such as \"mqtt\"",
                    });
                }
            }
        }
        Ok(())
    }

    /// The modules that are given what `module` emits on `channel`.
    pub fn takers<'a>(&'a self, module: &'a str, channel: &'a str) -> impl Iterator<Item = &'a Module> {
        let takes = move |source: &Source| matches!(source, Source::Channel { module: from, channel: of } if from == module && of == channel);
        self.modules.iter().filter(move |other| other.input.iter().any(|input| takes(&input.source)))
    }

    /// The names of modules along a cycle, the first of them at both ends.
    fn cycle(&self) -> Option<Vec<&str>> {
        // Modules through which no cycle goes.
        let mut clear = BTreeSet::new();
        self.modules.iter().find_map(|module| self.follow(module, &mut Vec::new(), &mut clear))
    }

    /// Follows the inputs of a module back. At most as deep as there are modules.
    fn follow<'a>(
        &'a self,
        module: &'a Module,
        path: &mut Vec<&'a str>,
        clear: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<&'a str>> {
        if let Some(start) = path.iter().position(|name| *name == module.name) {
            let around = path.iter().skip(start).copied().chain([module.name.as_str()]);
            // Inputs were followed against the way of the frames.
            return Some(around.collect::<Vec<_>>().into_iter().rev().collect());
        }
        if clear.contains(module.name.as_str()) {
            return None;
        }
        path.push(&module.name);
        for input in &module.input {
            let Source::Channel { module: from, .. } = &input.source else { continue };
            let found = self.modules.iter().find(|other| other.name == *from);
            if let Some(cycle) = found.and_then(|from| self.follow(from, path, clear)) {
                return Some(cycle);
            }
        }
        path.pop();
        clear.insert(&module.name);
        None
    }
}
