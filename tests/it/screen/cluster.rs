//! Services of a sharded cluster: their page, and what the form proposes.

use insta::assert_snapshot;
use mongokeep::domain::cluster::{
    Cluster, ClusterNode, ClusterOperation, ClusterProblem, ClusterSet, NodeState, OperationPart,
};
use mongokeep::domain::secret::Secret;
use mongokeep::domain::service::{EngineKind, EngineProposal};
use mongokeep::error::ErrorKind;
use mongokeep::tui::form::Item;
use mongokeep::tui::model::{Layer, Load, Look, Model};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply};
use mongokeep::tui::update::{look_at_nodes, update};

use crate::support::screen::*;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (160, 50);

fn node(host: &str, role: &str, state: NodeState) -> ClusterNode {
    ClusterNode {
        host: host.into(),
        role: role.into(),
        agent: Some("v2.15.0".into()).filter(|_: &String| state != NodeState::Missing),
        state,
        silent_seconds: (state == NodeState::Lost).then_some(95),
        errors: Vec::new(),
        remedy: if state.needs_somebody() {
            "on this host: systemctl enable --now pbm-agent".into()
        } else {
            String::new()
        },
    }
}

fn part(set: &str, node: &str, status: &str, bytes: Option<u64>) -> OperationPart {
    OperationPart {
        set: set.into(),
        node: node.into(),
        status: status.into(),
        is_over: status == "done",
        bytes,
        error: None,
    }
}

fn cluster() -> Cluster {
    let set = |name: &str, nodes: Vec<ClusterNode>| ClusterSet { name: name.into(), nodes };
    let mut failing = node("sh2-0.example.net:27018", "primary", NodeState::Failing);
    failing.errors = vec!["storage: check: open /srv/backup/prod/pbm: permission denied".into()];
    failing.remedy = "the log of pbm-agent on this host says more".into();
    Cluster {
        seen_at: now(),
        sets: vec![
            set("cfg", vec![node("cfg-0.example.net:27019", "primary", NodeState::Ready)]),
            set(
                "sh1",
                vec![
                    node("sh1-0.example.net:27018", "primary", NodeState::Ready),
                    node("sh1-1.example.net:27018", "secondary", NodeState::Lost),
                    node("sh1-2.example.net:27018", "role unknown", NodeState::Missing),
                ],
            ),
            set("sh2", vec![failing, node("sh2-1.example.net:27018", "arbiter", NodeState::Arbiter)]),
        ],
        operation: None,
        problems: Vec::new(),
    }
}

fn backup() -> ClusterOperation {
    ClusterOperation {
        kind: "backup".into(),
        name: "2026-11-21T13:58:00Z".into(),
        status: "running".into(),
        started_at: Some(ago(4)),
        silent_seconds: None,
        parts: vec![
            part("cfg", "cfg-0.example.net:27019", "done", Some(56_071)),
            part("sh1", "sh1-0.example.net:27018", "running", Some(318_000_000)),
            part("sh2", "sh2-0.example.net:27018", "dumpDone", None),
        ],
    }
}

/// The page of a service of PBM's, with what is known of its cluster.
fn page(size: (u16, u16), known: Option<Result<Cluster, Problem>>) -> Model {
    let mut model = full(Look::default(), size);
    model.data.services[0].engine = EngineKind::Pbm;
    keys(&mut model, "4 Enter");
    if let Some(result) = known {
        let result = result.map(|cluster| Some(Box::new(cluster)));
        update(&mut model, Msg::Reply(Box::new(Reply::ClusterSeen { name: "orders-rs".into(), result })));
    }
    model
}

fn both(name: &str, known: impl Fn() -> Option<Result<Cluster, Problem>>) {
    for (size, suffix) in [(SMALL, "80x24"), (LARGE, "160x50")] {
        let mut model = page(size, known());
        // Below what stands above it.
        if size == SMALL {
            keys(&mut model, "G");
        }
        assert_snapshot!(format!("{name}_{suffix}"), shown(&model));
    }
}

#[test]
fn the_page_shows_every_node_and_what_it_is_at() {
    both("cluster_nodes", || Some(Ok(cluster())));
    both("cluster_backup", || Some(Ok(Cluster { operation: Some(backup()), ..cluster() })));
    both("cluster_dead", || {
        Some(Ok(Cluster { operation: Some(ClusterOperation { silent_seconds: Some(340), ..backup() }), ..cluster() }))
    });
    both("cluster_unconfigured", || {
        let text = "PBM has no configuration yet, and names no nodes without one".to_owned();
        let remedy = "mongokeep service configure orders-rs --storage NAME --yes".to_owned();
        Some(Ok(Cluster { sets: Vec::new(), problems: vec![ClusterProblem { text, remedy }], ..cluster() }))
    });
    both("cluster_no_answer", || {
        Some(Err(Problem {
            kind: ErrorKind::NotFound,
            field: None,
            message: "there is no program pbm on the search path".into(),
            hint: Some("mongokeep settings set pbm.path /usr/bin/pbm".into()),
        }))
    });
}

#[test]
fn only_the_page_of_a_service_with_agents_asks_for_nodes() {
    let mut model = full(Look::default(), SMALL);
    keys(&mut model, "4 Enter");
    assert_eq!(model.watched_cluster(), None, "the engine works on the server alone");
    let mut model = page(SMALL, None);
    assert_eq!(model.watched_cluster(), Some("orders-rs"));
    assert_eq!(look_at_nodes(&mut model, "orders-rs".into()), Some(Effect::Cluster("orders-rs".into())));
    assert_eq!(model.clusters.get("orders-rs"), Some(&Load::Waiting));
    keys(&mut model, "G");
    assert!(shown(&model).contains("asking PBM"), "{}", shown(&model));
    let working = Cluster { operation: Some(backup()), ..cluster() };
    assert!(page(SMALL, Some(Ok(working.clone()))).cluster_works());
    let dead = ClusterOperation { silent_seconds: Some(340), ..backup() };
    assert!(!page(SMALL, Some(Ok(Cluster { operation: Some(dead), ..working }))).cluster_works(), "nothing turns");
}

fn proposed(size: (u16, u16), full: Option<&str>) -> Model {
    let mut model = empty(size);
    press(&mut model, "Enter");
    type_text(&mut model, "orders");
    press(&mut model, "Enter");
    type_text(&mut model, "mongodb://u:hunter2@m1:27017/?replicaSet=rs0");
    assert!(matches!(press(&mut model, "Ctrl-S")[..], [Effect::AddService(_)]));
    let proposal = EngineProposal {
        found: "leads to a mongos of a sharded cluster".into(),
        engine: EngineKind::Pbm,
        needs_other_uri: true,
        uri: full.map(|_| "mongodb://c1:27019,c2:27019/?replicaSet=cfg".into()),
        full: full.map(Secret::new),
    };
    reply(&mut model, Reply::EngineProposed(Box::new(proposal)));
    model
}

#[test]
fn a_sharded_cluster_is_proposed_to_pbm_and_one_key_accepts() {
    const LED: &str = "mongodb://u:hunter2@c1:27019,c2:27019/?replicaSet=cfg";
    for (size, suffix) in [(SMALL, "80x24"), (LARGE, "160x50")] {
        let model = proposed(size, Some(LED));
        assert!(!shown(&model).contains("hunter2"));
        assert_snapshot!(format!("engine_proposed_{suffix}"), shown(&model));
    }
    let mut model = proposed(SMALL, Some(LED));
    press(&mut model, "Ctrl-T");
    let Some(Layer::Form(form)) = model.layers.last() else { panic!("no form") };
    assert_eq!((form.text("engine"), form.text("uri"), form.focus), ("pbm", LED, Item::Submit));
    let effects = press(&mut model, "Enter");
    let [Effect::AddService(values)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((values["engine"][0].as_str(), values["uri"][0].as_str()), ("pbm", LED));

    // Whoever wants it as it is says so once more, and is not asked again.
    let mut model = proposed(SMALL, Some(LED));
    assert!(matches!(press(&mut model, "Ctrl-S")[..], [Effect::AddServiceAnyway(_)]));
    // Another connection string is looked at anew.
    let mut model = proposed(SMALL, Some(LED));
    type_text(&mut model, "&w=1");
    assert!(matches!(press(&mut model, "Ctrl-S")[..], [Effect::AddService(_)]));
    // Where the config servers are unknown, the person names them.
    let mut model = proposed(SMALL, None);
    press(&mut model, "Ctrl-T");
    let Some(Layer::Form(form)) = model.layers.last() else { panic!("no form") };
    assert_eq!((form.text("engine"), form.focus), ("pbm", form.row_at("uri").unwrap()));
}

#[test]
fn replica_sets_are_mapped_only_where_pbm_restores() {
    let disabled = |engine| {
        let mut model = full(Look::default(), SMALL);
        model.data.services[0].engine = engine;
        keys(&mut model, "j r");
        let Some(Layer::Form(form)) = model.layers.last() else { panic!("no form") };
        assert_eq!(form.text("to"), "orders-rs");
        form.row("replset_map").unwrap().disabled.clone()
    };
    assert_eq!(disabled(EngineKind::Native).as_deref(), Some("only where PBM restores"));
    assert_eq!(disabled(EngineKind::Pbm), None);
}
