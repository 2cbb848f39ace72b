//! The paths of one service as a tree: which segments are names, and which places vary.

use foldhash::fast::FixedState;
use hashbrown::{Equivalent, HashMap};
use smallvec::SmallVec;
use spandrel_model::{KernelTime, Text};

use crate::route::{Route, Settings, is_identifier};

/// Requests within this long count as one piece of evidence over time.
const WINDOW_NANOS: u64 = 10_000_000_000;
/// A name that was seen in as many windows, or as often, keeps its place when the place becomes variable.
const ESTABLISHED_WINDOWS: u32 = 4;
const ESTABLISHED_COUNT: u32 = 32;
/// A value of a variable place becomes a name when it was seen as often, others' share deducted, and over time.
const PROMOTED_COUNT: u32 = 16;

/// How often and over how long something was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    count: u32,
    windows: u32,
    /// The last window, counted from 1.
    window: u64,
}

impl Seen {
    fn again(&mut self, window: u64) {
        self.count = self.count.saturating_add(1);
        if self.window != window {
            self.window = window;
            self.windows = self.windows.saturating_add(1);
        }
    }

    fn is_established(&self) -> bool {
        self.windows >= ESTABLISHED_WINDOWS || self.count >= ESTABLISHED_COUNT
    }
}

#[derive(Debug, Default)]
struct Node {
    /// Values that are names.
    names: HashMap<Box<str>, usize, FixedState>,
    placeholder: Option<usize>,
    /// Too many values have been seen here: another one is a name only when it is promoted.
    variable: bool,
    /// Values that have been promoted here.
    promoted: usize,
    seen: Seen,
    /// The routes that end here, by what their names begin with.
    routes: SmallVec<[(Text, Route); 1]>,
}

/// A value at a place, as a key that is looked up without a copy.
#[derive(Hash)]
struct At<'a>(usize, &'a str);

impl Equivalent<(usize, Box<str>)> for At<'_> {
    fn equivalent(&self, key: &(usize, Box<str>)) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    free: Vec<usize>,
    /// Values of variable places that come often: a value whose share is larger than one in as many as there are
    /// places for cannot be pushed out, however many others come (Misra and Gries).
    candidates: HashMap<(usize, Box<str>), Seen, FixedState>,
    /// Bytes of the routes' texts.
    pub(crate) kept: usize,
    /// Orders the services by their last use.
    pub(crate) last_used: u64,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
            candidates: HashMap::default(),
            kept: 0,
            last_used: 0,
        }
    }

    pub(crate) const ROOT: usize = 0;

    /// The node below `at` for a segment that is known, and whether the segment is a name there.
    pub(crate) fn find(&self, at: usize, segment: &str) -> Option<(usize, bool)> {
        let node = self.nodes.get(at)?;
        if let Some(&child) = node.names.get(segment) {
            return Some((child, true));
        }
        let varies = node.variable || is_identifier(segment);
        node.placeholder
            .filter(|_| varies)
            .map(|child| (child, false))
    }

    /// The same for a segment of a path that exists; it is learned.
    pub(crate) fn learn(
        &mut self,
        at: usize,
        segment: &str,
        time: KernelTime,
        settings: &Settings,
    ) -> Option<(usize, bool)> {
        let window = 1 + time.0 / WINDOW_NANOS;
        let (child, name) = self.step(at, segment, window, settings)?;
        self.nodes.get_mut(child)?.seen.again(window);
        Some((child, name))
    }

    fn step(
        &mut self,
        at: usize,
        segment: &str,
        window: u64,
        settings: &Settings,
    ) -> Option<(usize, bool)> {
        let node = self.nodes.get(at)?;
        if let Some(&child) = node.names.get(segment) {
            return Some((child, true));
        }
        if !is_identifier(segment) {
            if !node.variable && node.names.len() >= settings.max_values {
                self.make_variable(at);
            }
            let variable = self.nodes.get(at)?.variable;
            if !variable || self.is_promoted(at, segment, window, settings) {
                let child = self.add(settings.max_nodes)?;
                self.nodes.get_mut(at)?.names.insert(segment.into(), child);
                return Some((child, true));
            }
        }
        if let Some(child) = self.nodes.get(at)?.placeholder {
            return Some((child, false));
        }
        let child = self.add(settings.max_nodes)?;
        self.nodes.get_mut(at)?.placeholder = Some(child);
        Some((child, false))
    }

    /// Of the names at a place that has too many values, those stay that are established.
    fn make_variable(&mut self, at: usize) {
        let Some(node) = self.nodes.get_mut(at) else {
            return;
        };
        node.variable = true;
        let mut names = std::mem::take(&mut node.names);
        let mut dropped = Vec::new();
        names.retain(|_, child| {
            let stays = self
                .nodes
                .get(*child)
                .is_some_and(|node| node.seen.is_established());
            if !stays {
                dropped.push(*child);
            }
            stays
        });
        if let Some(node) = self.nodes.get_mut(at) {
            node.names = names;
        }
        for child in dropped {
            self.remove(child);
        }
    }

    /// Whether a value of a variable place has come so often, and over so long, that it is a name after all.
    fn is_promoted(&mut self, at: usize, segment: &str, window: u64, settings: &Settings) -> bool {
        let promoted = self.nodes.get(at).map_or(0, |node| node.promoted);
        if promoted >= settings.max_values {
            return false;
        }
        let key = At(at, segment);
        if let Some(seen) = self.candidates.get_mut(&key) {
            seen.again(window);
            if seen.count < PROMOTED_COUNT || seen.windows < ESTABLISHED_WINDOWS {
                return false;
            }
            self.candidates.remove(&key);
            if let Some(node) = self.nodes.get_mut(at) {
                node.promoted += 1;
            }
            return true;
        }
        if self.candidates.len() < settings.max_nodes {
            let mut seen = Seen::default();
            seen.again(window);
            self.candidates.insert((at, segment.into()), seen);
        } else {
            self.candidates.retain(|_, seen| {
                seen.count -= 1;
                seen.count > 0
            });
        }
        false
    }

    fn live(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    fn add(&mut self, max_nodes: usize) -> Option<usize> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        (self.nodes.len() < max_nodes).then(|| {
            self.nodes.push(Node::default());
            self.nodes.len() - 1
        })
    }

    /// Takes a node out, with all that is below it.
    fn remove(&mut self, index: usize) {
        let mut below = vec![index];
        while let Some(index) = below.pop() {
            if let Some(node) = self.nodes.get_mut(index) {
                let node = std::mem::take(node);
                self.kept -= node.routes.iter().map(cost).sum::<usize>();
                below.extend(node.names.into_values());
                below.extend(node.placeholder);
                self.free.push(index);
            }
            self.candidates.retain(|(at, _), _| *at != index);
        }
    }

    /// Makes room where there is hardly any for another path: names go, those first that are not established, then those
    /// that have not been seen for the longest. Their places are variable from then on, so that what is learned in all
    /// the time of a service is bounded as well.
    pub(crate) fn make_room(&mut self, max_nodes: usize, path: usize) {
        if max_nodes - self.live().min(max_nodes) >= path.min(max_nodes / 8).max(1) {
            return;
        }
        let mut edges: Vec<_> = self
            .nodes
            .iter()
            .enumerate()
            .flat_map(|(at, node)| {
                node.names
                    .iter()
                    .map(move |(name, child)| (at, name, *child))
            })
            .filter_map(|(at, name, child)| {
                let seen = self.nodes.get(child)?.seen;
                Some((
                    seen.is_established(),
                    seen.window,
                    seen.count,
                    at,
                    name.clone(),
                    child,
                ))
            })
            .collect();
        edges.sort_unstable();
        for (.., at, name, child) in edges {
            if self.live() <= max_nodes - max_nodes / 4 {
                return;
            }
            // With its parent it may be gone already.
            if let Some(node) = self.nodes.get_mut(at)
                && node.names.get(&name) == Some(&child)
            {
                node.names.remove(&name);
                node.variable = true;
                self.remove(child);
            }
        }
    }

    /// The route that ends at a node, if it was made before.
    pub(crate) fn route(&self, at: usize, prefix: &str, template: &str) -> Option<Route> {
        let node = self.nodes.get(at)?;
        let found = node
            .routes
            .iter()
            .find(|(other, known)| *other == *prefix && known.template == *template);
        found.map(|(_, known)| known.clone())
    }

    /// Keeps a route; the bytes that this takes.
    pub(crate) fn keep(&mut self, at: usize, prefix: &Text, route: Route) -> usize {
        let Some(node) = self.nodes.get_mut(at) else {
            return 0;
        };
        let one = (prefix.clone(), route);
        let cost = cost(&one);
        node.routes.push(one);
        self.kept += cost;
        cost
    }

    /// Lets go of the routes' texts: they are made again when they are needed.
    pub(crate) fn let_go(&mut self) {
        for node in &mut self.nodes {
            node.routes = SmallVec::new();
        }
        self.kept = 0;
    }

    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.nodes.len(), self.candidates.len())
    }
}

/// What keeping a route costs.
fn cost((_, route): &(Text, Route)) -> usize {
    route.template.len() + route.name.len() + size_of::<(Text, Route)>()
}
