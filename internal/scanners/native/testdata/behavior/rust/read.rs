fn main() {
    println!("{}", std::fs::read_to_string("a").unwrap().len())
}
