use std::io::Write;
fn main() {
    let mut s = std::net::TcpStream::connect("registry.example:80").unwrap();
    s.write_all(b"x").unwrap();
}
