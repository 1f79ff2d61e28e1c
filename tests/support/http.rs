//! An HTTP/1.1 server that knows which connection a request comes over.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub struct HttpServer {
    pub url: String,
    task: JoinHandle<()>,
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a server that answers what `answer` says to the number of the connection, from 0, and the body. `open` tells
/// how many connections are open.
pub async fn start<F, A>(open: Arc<AtomicUsize>, answer: F) -> HttpServer
where
    F: Fn(usize, Vec<u8>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = (u16, String)> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let (answer, open) = (answer.clone(), open.clone());
            open.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let _ = serve(stream, number, answer).await;
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    HttpServer { url, task }
}

async fn serve<F, A>(stream: TcpStream, number: usize, answer: F) -> std::io::Result<()>
where
    F: Fn(usize, Vec<u8>) -> A,
    A: Future<Output = (u16, String)>,
{
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            let mut body = vec![0; std::mem::take(&mut length)];
            stream.read_exact(&mut body).await?;
            let (status, text) = answer(number, body).await;
            let head =
                format!("HTTP/1.1 {status} -\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n", text.len());
            stream.write_all((head + &text).as_bytes()).await?;
        }
    }
}
