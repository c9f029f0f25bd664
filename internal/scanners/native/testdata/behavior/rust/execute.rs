fn main() {
    std::process::Command::new("id").status().unwrap();
}
