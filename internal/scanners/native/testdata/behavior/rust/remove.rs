fn main() {
    std::fs::remove_file("a").unwrap()
}
