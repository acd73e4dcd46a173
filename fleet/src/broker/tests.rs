#![allow(clippy::unwrap_used)]

use std::{net::TcpStream, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rumqttc::{
    AsyncClient, Event, Incoming, LastWill, MqttOptions, NetworkOptions, PublishOptions, PublishResult, QoS,
    SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::{sync::mpsc, time::timeout};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    fn certify(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }
}

fn start(authority: &Authority) -> EmbeddedBroker {
    let (cert_pem, key_pem) = authority.certify("broker");
    EmbeddedBroker::start(BrokerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ca_pem: authority.pem(),
        cert_pem,
        key_pem,
        topics: Topics::new("sanderling/v1").unwrap(),
        operator: "operator".to_owned(),
    })
    .unwrap()
}

struct Client {
    requests: AsyncClient,
    messages: mpsc::UnboundedReceiver<(String, Vec<u8>, bool)>,
    connection: tokio::task::JoinHandle<String>,
}

impl Client {
    /// Connects, or says why not.
    async fn connect(
        broker: &EmbeddedBroker,
        authority: &Authority,
        certificate: Option<(Vec<u8>, Vec<u8>)>,
        client_id: &str,
        more: impl FnOnce(&mut MqttOptions),
    ) -> Result<Self, String> {
        let mut options = MqttOptions::new(client_id, ("127.0.0.1", broker.address().port()));
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        options.set_max_packet_size(Some(1 << 20));
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Simple {
            ca: authority.pem(),
            alpn: None,
            client_auth: certificate,
        }));
        more(&mut options);
        let (requests, mut events) = AsyncClient::builder(options).capacity(16).build();
        let (connected, mut ready) = mpsc::unbounded_channel();
        let (deliver, messages) = mpsc::unbounded_channel();
        let connection = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Incoming::ConnAck(_))) => drop(connected.send(())),
                    Ok(Event::Incoming(Incoming::Publish(message))) => {
                        let topic = String::from_utf8_lossy(&message.topic).into_owned();
                        drop(deliver.send((topic, message.payload.to_vec(), message.retain)));
                    }
                    Ok(_) => {}
                    Err(error) => return error.to_string(),
                }
            }
        });
        match timeout(PATIENCE, ready.recv()).await.unwrap() {
            Some(()) => Ok(Self { requests, messages, connection }),
            None => Err(connection.await.unwrap()),
        }
    }

    async fn publish(&self, topic: &str, payload: Vec<u8>, retain: bool) -> String {
        let options = PublishOptions::at_least_once().retain(retain);
        let notice = self.requests.publish_tracked(topic, payload, options).await.unwrap();
        match timeout(PATIENCE, notice.wait_async()).await.unwrap() {
            Ok(PublishResult::Qos1(ack)) => format!("{:?}", ack.reason),
            other => format!("{other:?}"),
        }
    }

    async fn subscribe(&self, filter: &str) -> Vec<SubscribeReasonCode> {
        let notice = self.requests.subscribe_tracked(filter, QoS::AtLeastOnce).await.unwrap();
        timeout(PATIENCE, notice.wait_async()).await.unwrap().unwrap().return_codes
    }

    async fn message(&mut self) -> (String, Vec<u8>, bool) {
        timeout(PATIENCE, self.messages.recv()).await.unwrap().unwrap()
    }
}

async fn named(broker: &EmbeddedBroker, authority: &Authority, name: &str) -> Client {
    Client::connect(broker, authority, Some(authority.certify(name)), name, |_| {}).await.unwrap()
}

#[tokio::test]
async fn keeps_replaces_and_clears_retained_messages_up_to_128_kib() {
    let authority = Authority::new();
    let broker = start(&authority);
    let operator = named(&broker, &authority, "operator").await;
    let topic = "sanderling/v1/chunk/00";
    assert_eq!(operator.publish(topic, vec![1; 128 << 10], true).await, "Success");
    assert_eq!(operator.publish(topic, vec![2; 128 << 10], true).await, "Success");

    let mut device = named(&broker, &authority, "gw-1").await;
    for _ in 0..2 {
        device.subscribe(topic).await;
        assert_eq!(device.message().await, (topic.to_owned(), vec![2; 128 << 10], true));
    }

    operator.publish(topic, Vec::new(), true).await;
    assert_eq!(device.message().await, (topic.to_owned(), Vec::new(), false));
    let mut late = named(&broker, &authority, "gw-2").await;
    late.subscribe("sanderling/v1/chunk/+").await;
    operator.publish("sanderling/v1/chunk/01", vec![3], false).await;
    assert_eq!(late.message().await, ("sanderling/v1/chunk/01".to_owned(), vec![3], false));
}

#[tokio::test]
async fn delivers_every_retained_message_to_one_wildcard_subscription() {
    let authority = Authority::new();
    let broker = start(&authority);
    let operator = named(&broker, &authority, "operator").await;
    for n in 0..2000_u32 {
        let options = PublishOptions::at_least_once().retain(true);
        let topic = format!("sanderling/v1/chunk/{n}");
        operator.requests.publish(topic, n.to_le_bytes().to_vec(), options).await.unwrap();
    }
    operator.publish("sanderling/v1/chunk/last", vec![0], true).await;
    let mut device = named(&broker, &authority, "gw-1").await;
    device.subscribe("sanderling/v1/chunk/#").await;
    let mut topics = std::collections::HashSet::new();
    for _ in 0..2001 {
        topics.insert(device.message().await.0);
    }
    assert_eq!(topics.len(), 2001);
}

#[tokio::test]
async fn refuses_a_client_without_a_certificate() {
    let authority = Authority::new();
    let broker = start(&authority);
    let refused = Client::connect(&broker, &authority, None, "gw-1", |_| {}).await.err().unwrap();
    assert!(refused.contains("CertificateRequired"), "{refused}");
}

#[tokio::test]
async fn refuses_a_certificate_of_another_authority() {
    let authority = Authority::new();
    let broker = start(&authority);
    let foreign = Authority::new().certify("operator");
    let refused = Client::connect(&broker, &authority, Some(foreign), "operator", |_| {}).await.err().unwrap();
    assert!(refused.contains("alert"), "{refused}");
}

#[tokio::test]
async fn refuses_a_certificate_that_names_no_device() {
    let authority = Authority::new();
    let broker = start(&authority);
    let wild = Some(authority.certify("gw/#"));
    assert!(Client::connect(&broker, &authority, wild, "gw", |_| {}).await.is_err());
}

#[tokio::test]
async fn refuses_a_device_under_the_client_id_of_another() {
    let authority = Authority::new();
    let broker = start(&authority);
    let own = Some(authority.certify("gw-1"));
    let refused = Client::connect(&broker, &authority, own, "gw-2", |_| {}).await.err().unwrap();
    assert!(refused.contains("ClientIdentifierNotValid"), "{refused}");
}

#[tokio::test]
async fn confines_a_device_to_its_own_subtree() {
    let authority = Authority::new();
    let broker = start(&authority);
    let device = named(&broker, &authority, "gw-1").await;
    assert_eq!(device.publish("sanderling/v1/device/gw-1/event", vec![1], false).await, "Success");
    assert_eq!(device.publish("sanderling/v1/device/gw-2/event", vec![1], false).await, "NotAuthorized");
    assert_eq!(device.publish("sanderling/v1/repo/timestamp", vec![1], true).await, "NotAuthorized");
    assert_eq!(device.subscribe("sanderling/v1/device/gw-2/cmd/+").await, [SubscribeReasonCode::NotAuthorized]);
    assert_eq!(
        device.subscribe("sanderling/v1/device/gw-1/cmd/+").await,
        [SubscribeReasonCode::Success(QoS::AtLeastOnce)]
    );
}

#[tokio::test]
async fn publishes_the_will_of_a_device_that_vanishes() {
    let authority = Authority::new();
    let broker = start(&authority);
    let mut operator = named(&broker, &authority, "operator").await;
    operator.subscribe("sanderling/v1/device/+/status").await;
    let topic = "sanderling/v1/device/gw-1/status";
    let device = Client::connect(&broker, &authority, Some(authority.certify("gw-1")), "gw-1", |options| {
        options.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, true, None));
    })
    .await
    .unwrap();
    device.connection.abort();
    assert_eq!(operator.message().await, (topic.to_owned(), b"gone".to_vec(), false));
}

#[tokio::test]
async fn keeps_messages_for_a_session_that_is_away() {
    let authority = Authority::new();
    let broker = start(&authority);
    let persistent = |options: &mut MqttOptions| {
        options.set_clean_start(false).set_session_expiry_interval(Some(60));
        options.set_broker_session_resume_policy(rumqttc::BrokerSessionResumePolicy::AllowBrokerOnly);
    };
    let certificate = authority.certify("gw-1");
    let away = Client::connect(&broker, &authority, Some(certificate.clone()), "gw-1", persistent).await.unwrap();
    away.subscribe("sanderling/v1/device/gw-1/cmd/+").await;
    away.requests.disconnect().await.unwrap();
    away.connection.await.unwrap();

    let operator = named(&broker, &authority, "operator").await;
    for n in 0..20 {
        operator.publish("sanderling/v1/device/gw-1/cmd/ping", vec![n], false).await;
    }
    let mut back = Client::connect(&broker, &authority, Some(certificate), "gw-1", persistent).await.unwrap();
    for n in 0..20 {
        assert_eq!(back.message().await.1, [n]);
    }
}

#[tokio::test]
async fn serves_others_while_a_connection_says_nothing() {
    let authority = Authority::new();
    let broker = start(&authority);
    let _silent: Vec<_> = (0..8).map(|_| TcpStream::connect(broker.address()).unwrap()).collect();
    named(&broker, &authority, "gw-1").await;
}

#[tokio::test]
async fn closes_connections_and_listener_when_dropped() {
    let authority = Authority::new();
    let broker = start(&authority);
    let address = broker.address();
    assert_ne!(address.port(), 0);
    let device = named(&broker, &authority, "gw-1").await;
    drop(broker);
    timeout(PATIENCE, device.connection).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn says_which_pem_is_not_usable() {
    let authority = Authority::new();
    let (cert_pem, key_pem) = authority.certify("broker");
    let config = BrokerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ca_pem: b"nothing".to_vec(),
        cert_pem,
        key_pem,
        topics: Topics::new("sanderling/v1").unwrap(),
        operator: "operator".to_owned(),
    };
    let error = EmbeddedBroker::start(config).err().unwrap();
    assert!(matches!(error, BrokerError::Pem { what: "authority", .. }), "{error}");
}
