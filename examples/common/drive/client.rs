//! One client: connects, makes its handshake, fetches the page, keeps the tickets, comes back.
//!
//! rustls gives a ticket out once and does not let it be copied, so a second use is made of a
//! ClientHello that is sent twice: the server accepts the ticket in the first copy, whose
//! connection is then abandoned, and the client completes its handshake with the second.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind,
    SignatureScheme, Stream,
    client::{
        Resumption, Tls13ClientSessionValue,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::TLS13,
};

use super::{Plan, Summary, summary::Offer, tickets::Tickets};

const PATIENCE: Duration = Duration::from_secs(10);
const AFTER_A_FAILURE: Duration = Duration::from_millis(50);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Of a hundred visits: by new clients, and with a used ticket. The others return.
const NEW: u64 = 10;
const SECOND_USES: u64 = 5;

pub(crate) struct Client {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    tickets: Arc<Tickets>,
    /// The oldest first, which is the one to use.
    wallet: VecDeque<Tls13ClientSessionValue>,
    wallet_size: usize,
    dice: u64,
}

impl Client {
    pub(crate) fn new(plan: &Plan, number: usize) -> Self {
        let tickets = Arc::new(Tickets::default());
        Self {
            address: plan.address,
            config: Arc::new(config(plan.pins.clone(), tickets.clone())),
            tickets,
            wallet: VecDeque::new(),
            wallet_size: (plan.tickets / plan.clients).max(1),
            dice: 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1),
        }
    }

    pub(crate) fn run(mut self, summary: &Mutex<Summary>, over: &AtomicBool) {
        while !over.load(Relaxed) {
            match self.visit() {
                Ok((offer, kind, took)) => summary.lock().unwrap().count(offer, kind, took),
                Err(error) => {
                    summary.lock().unwrap().fail(error.to_string());
                    thread::sleep(AFTER_A_FAILURE);
                }
            }
        }
    }

    fn visit(&mut self) -> io::Result<(Offer, HandshakeKind, Duration)> {
        let roll = self.roll() % 100;
        let ticket = if roll < NEW { None } else { self.wallet.pop_front() };
        let mut offer = if ticket.is_some() { Offer::Ticket } else { Offer::Nothing };
        self.tickets.offer(ticket);
        let name = ServerName::from(self.address.ip());
        let mut tls = ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;

        let mut hello = Vec::new();
        tls.write_tls(&mut hello)?;
        let second = matches!(offer, Offer::Ticket) && roll < NEW + SECOND_USES;
        // A ticket that the server does not know is not used by this: it stays a return.
        if second && self.spend(&hello)? {
            offer = Offer::UsedTicket;
        }

        let mut tcp = self.connect()?;
        let start = Instant::now();
        tcp.write_all(&hello)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        let took = start.elapsed();
        let kind = tls.handshake_kind().expect("the handshake is complete");
        fetch(&mut Stream::new(&mut tls, &mut tcp))?;
        self.keep_tickets();
        Ok((offer, kind, took))
    }

    /// Has the server accept the ticket of this ClientHello, and leaves; whether it did.
    fn spend(&self, hello: &[u8]) -> io::Result<bool> {
        let mut tcp = self.connect()?;
        tcp.write_all(hello)?;
        let mut header = [0; 5];
        tcp.read_exact(&mut header)?;
        let mut record = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        tcp.read_exact(&mut record)?;
        accepts_ticket(&record).ok_or_else(|| io::Error::other("the server sent no ServerHello"))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let tcp = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    fn keep_tickets(&mut self) {
        self.wallet.extend(self.tickets.received());
        let surplus = self.wallet.len().saturating_sub(self.wallet_size);
        self.wallet.drain(..surplus);
    }

    /// xorshift: which client does what should differ, and be the same in each drive.
    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }
}

/// Asks for the page and reads it to its end; the tickets come with it.
fn fetch(stream: &mut Stream<'_, ClientConnection, TcpStream>) -> io::Result<()> {
    stream.write_all(REQUEST)?;
    let mut page = Vec::new();
    stream.read_to_end(&mut page)?;
    if !page.starts_with(b"HTTP/1.1 200 ") {
        return Err(io::Error::other("the server did not answer with its page"));
    }
    Ok(())
}

/// Whether the ServerHello in a record selects the ticket that was offered; `None` if there is
/// no ServerHello in it.
fn accepts_ticket(record: &[u8]) -> Option<bool> {
    const SERVER_HELLO: u8 = 2;
    const PRE_SHARED_KEY: u16 = 41;
    let [SERVER_HELLO, _, _, _, rest @ ..] = record else { return None };
    // Version 2, random 32, then the echo of the session id.
    let id_len = usize::from(*rest.get(34)?);
    // Suite 2, compression 1, length of the extensions 2.
    let mut extensions = rest.get(35 + id_len + 5..)?;
    while let [k0, k1, l0, l1, rest @ ..] = extensions {
        if u16::from_be_bytes([*k0, *k1]) == PRE_SHARED_KEY {
            return Some(true);
        }
        extensions = rest.get(usize::from(u16::from_be_bytes([*l0, *l1]))..)?;
    }
    Some(false)
}

fn config(pins: Arc<Pins>, tickets: Arc<Tickets>) -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(pins)
        .with_no_client_auth();
    config.resumption = Resumption::store(tickets);
    config
}

/// The certificates that the server has had, each once and as good as the last: the drive knows them from
/// the server itself, and accepts these and no others.
#[derive(Debug)]
pub(crate) struct Pins {
    known: Mutex<Vec<CertificateDer<'static>>>,
    provider: CryptoProvider,
}

impl Pins {
    pub(crate) fn new() -> Self {
        Self { known: Mutex::default(), provider: ring::default_provider() }
    }

    pub(crate) fn add(&self, certificate: CertificateDer<'static>) {
        let mut known = self.known.lock().unwrap();
        if !known.contains(&certificate) {
            known.push(certificate);
        }
    }
}

impl ServerCertVerifier for Pins {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.known.lock().unwrap().iter().any(|known| known == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("the clients speak TLS 1.3 alone".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
