//! Who gets a certificate, and who does not.

use ghost_api::domain::token::Hash;
use ghost_proto::admin::{CreateTokenRequest, RevokeAgentRequest};
use ghost_proto::controlplane::RenewRequest;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};
use tonic::Code;
use uuid::Uuid;

use crate::agent::{self, Agent, csr, enrolment};
use crate::api::{Api, Key, reason};

fn id() -> String {
    Uuid::new_v4().to_string()
}

async fn refused(api: &Api, key: &Key, id: &str, csr: Vec<u8>) -> (Code, String) {
    let status = api.stranger().await.enroll(enrolment(key, id, csr)).await.unwrap_err();
    (status.code(), reason(&status))
}

#[tokio::test]
async fn the_whole_life_of_an_agent() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    assert_eq!(api.agent(&agent.id).await.status, "enrolled");
    let registered = agent.register().await.unwrap();
    assert_eq!((registered.interval_seconds, registered.last_event), (30, 0));
    assert_eq!(registered.superseded, "");
    assert!(registered.server_time.is_some());
    assert_eq!(agent.heartbeat().await.unwrap().last_event, 0);
    assert_eq!(agent.report(&[1, 2]).await.unwrap(), 2);
    assert_eq!(agent.heartbeat().await.unwrap().last_event, 2);

    let newer = KeyPair::generate().unwrap();
    let ask = RenewRequest { csr: csr(&newer, &agent.id, |_| ()) };
    let renewed = agent.client.renew(ask).await.unwrap().into_inner();
    assert_eq!(renewed.ca, agent.identity.ca);
    assert_ne!(renewed.chain, agent.identity.chain);
    agent.identity = agent::Issued { key: newer, chain: renewed.chain, ca: renewed.ca };
    agent.reconnect(&api).await;
    assert_eq!(agent.heartbeat().await.unwrap().last_event, 2);

    let seen = api.agent(&agent.id).await;
    assert_eq!((seen.status.as_str(), seen.vms, seen.vms_running), ("online", 2, 1));
    let what: Vec<String> = api.audit().await.into_iter().map(|record| record.what).collect();
    let expected = ["token created", "agent enrolled", "agent registered", "certificate renewed"];
    assert_eq!(what, expected);
}

#[tokio::test]
async fn the_key_pins_the_authority_that_the_server_shows() {
    let api = Api::start().await;
    let key = api.key("").await;
    assert_eq!(key.ca, Hash::of(&api.ca()).to_string());
    let tcp = tokio::net::TcpStream::connect(api.server().address).await.unwrap();
    let tls = crate::api::tls(&api.ca(), None);
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls));
    let stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap();
    assert_eq!(Hash::of(shown.last().unwrap()).to_string(), key.ca);
}

#[tokio::test]
async fn a_wrong_a_used_and_an_expired_key_open_nothing() {
    let api = Api::start().await;
    let (good, own) = (api.key("").await, KeyPair::generate().unwrap());
    for secret in ["", "x", &"a".repeat(52), &good.secret.to_uppercase()] {
        let (id, wrong) = (id(), Key { secret: secret.to_owned(), ..good.clone() });
        let outcome = refused(&api, &wrong, &id, csr(&own, &id, |_| ())).await;
        assert_eq!(outcome, (Code::PermissionDenied, "KEY_UNKNOWN".to_owned()), "{secret}");
    }
    let first = id();
    agent::enrol(&api, &good, &first, &own).await.unwrap();
    let second = id();
    let outcome = refused(&api, &good, &second, csr(&own, &second, |_| ())).await;
    assert_eq!(outcome, (Code::PermissionDenied, "KEY_USED".to_owned()));
    let late = api.key("").await;
    api.clock.advance(3601);
    let outcome = refused(&api, &late, &second, csr(&own, &second, |_| ())).await;
    assert_eq!(outcome, (Code::PermissionDenied, "KEY_EXPIRED".to_owned()));
    assert_eq!(api.agents().await.len(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_given_again_to_who_has_the_same_private_key_and_to_nobody_else() {
    let api = Api::start().await;
    let (key, own, id) = (api.key("").await, KeyPair::generate().unwrap(), id());
    let first = agent::enrol(&api, &key, &id, &own).await.unwrap();
    let again = agent::enrol(&api, &key, &id, &own).await.unwrap();
    assert_eq!(first.ca, again.ca);
    assert_eq!(api.audit().await.len(), 2);
    let thief = KeyPair::generate().unwrap();
    let outcome = refused(&api, &key, &id, csr(&thief, &id, |_| ())).await;
    assert_eq!(outcome.1, "KEY_USED");
}

#[tokio::test]
async fn no_request_gets_more_than_the_agents_own_name() {
    let api = Api::start().await;
    let (key, own, id) = (api.key("").await, KeyPair::generate().unwrap(), id());
    let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
    let other = self::id();
    let with = |change: &dyn Fn(&mut CertificateParams)| csr(&own, &id, |params| change(params));
    let requests = [
        ("another agent's name", csr(&own, &other, |_| ())),
        ("a CA", with(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        (
            "two names",
            with(&|params| params.subject_alt_names.push(uri("spiffe://ghost/operator"))),
        ),
        (
            "the control plane",
            with(&|params| params.subject_alt_names = vec![uri("spiffe://ghost/control-plane")]),
        ),
        ("no name", with(&|params| params.subject_alt_names.clear())),
        ("nothing", vec![]),
        ("garbage", vec![0x30; 400]),
    ];
    for (what, csr) in requests {
        let outcome = refused(&api, &key, &id, csr).await;
        assert_eq!(outcome, (Code::InvalidArgument, "BAD_CSR".to_owned()), "{what}");
    }
    for wrong in ["", "pc-1", "../..", &id.to_uppercase()] {
        let outcome = refused(&api, &key, wrong, csr(&own, wrong, |_| ())).await;
        assert_eq!(outcome, (Code::InvalidArgument, "BAD_CSR".to_owned()), "{wrong}");
    }
    // None of them has used the key up.
    agent::enrol(&api, &key, &id, &own).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_clients_with_one_key_exactly_one_wins() {
    let api = Api::start().await;
    let key = api.key("").await;
    let tries = (0..20).map(|_| async {
        let (id, own) = (id(), KeyPair::generate().unwrap());
        agent::enrol(&api, &key, &id, &own).await.map_err(|status| reason(&status))
    });
    let outcomes = futures_util::future::join_all(tries).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 19));
    assert!(lost.into_iter().all(|outcome| outcome.unwrap_err() == "KEY_USED"));
    assert_eq!(api.agents().await.len(), 1);
}

#[tokio::test]
async fn a_known_agent_comes_back_only_by_a_key_made_for_it_and_its_old_certificate_ends() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    agent.register().await.unwrap();
    let own = KeyPair::generate().unwrap();
    let outcome = refused(&api, &api.key("").await, &agent.id, csr(&own, &agent.id, |_| ())).await;
    assert_eq!(outcome, (Code::AlreadyExists, "AGENT_KNOWN".to_owned()));
    api.clock.advance(2);
    let mut again = Agent::with_id(&api, &agent.id, &agent.id).await;
    again.register().await.unwrap();
    let status = agent.heartbeat().await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unauthenticated, "CERTIFICATE_REPLACED")
    );
    again.heartbeat().await.unwrap();
}

#[tokio::test]
async fn a_revoked_agent_is_refused_at_once_and_for_good() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    agent.register().await.unwrap();
    let late_key = api.key(&agent.id).await;
    let ask = RevokeAgentRequest { agent: "pc-1".to_owned() };
    api.admin().await.revoke_agent(ask).await.unwrap();
    assert_eq!(api.agent(&agent.id).await.status, "revoked");
    let renewal = RenewRequest { csr: csr(&KeyPair::generate().unwrap(), &agent.id, |_| ()) };
    for status in [
        agent.heartbeat().await.unwrap_err(),
        agent.register().await.unwrap_err(),
        agent.report(&[1]).await.unwrap_err(),
        agent.client.renew(renewal).await.unwrap_err(),
    ] {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::PermissionDenied, "AGENT_REVOKED")
        );
    }
    let own = KeyPair::generate().unwrap();
    let outcome = refused(&api, &late_key, &agent.id, csr(&own, &agent.id, |_| ())).await;
    assert_eq!(outcome, (Code::PermissionDenied, "AGENT_REVOKED".to_owned()));
    let ask = CreateTokenRequest { ttl_seconds: 3600, agent_id: agent.id.clone() };
    let status = api.admin().await.create_token(ask).await.unwrap_err();
    assert_eq!(reason(&status), "AGENT_REVOKED");
}

#[tokio::test]
async fn a_key_is_made_only_for_a_sensible_time_and_a_known_agent() {
    let api = Api::start().await;
    for (ttl_seconds, agent_id, expected) in [
        (0, String::new(), "BAD_REQUEST"),
        (59, String::new(), "BAD_REQUEST"),
        (30 * 86_400 + 1, String::new(), "BAD_REQUEST"),
        (60, id(), "NO_SUCH_AGENT"),
    ] {
        let ask = CreateTokenRequest { ttl_seconds, agent_id };
        let status = api.admin().await.create_token(ask).await.unwrap_err();
        assert_eq!(reason(&status), expected, "{ttl_seconds}");
    }
    assert_eq!(api.audit().await, []);
}

#[tokio::test]
async fn who_tries_too_often_waits() {
    let api = Api::start().await;
    let (key, own, id) = (api.key("").await, KeyPair::generate().unwrap(), id());
    let wrong = Key { secret: "a".repeat(52), ..key };
    let mut client = api.stranger().await;
    let mut last = None;
    for _ in 0..31 {
        let ask = enrolment(&wrong, &id, csr(&own, &id, |_| ()));
        last = client.enroll(ask).await.err();
    }
    let status = last.unwrap();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::ResourceExhausted, "TOO_MANY_CALLS")
    );
}

#[tokio::test]
async fn ten_megabytes_are_refused_and_the_server_goes_on() {
    let api = Api::start().await;
    let (key, id) = (api.key("").await, id());
    let ask = enrolment(&key, &id, vec![0x30; 10 << 20]);
    let status = api.stranger().await.enroll(ask).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    agent::enrol(&api, &key, &id, &KeyPair::generate().unwrap()).await.unwrap();
}
