// Part of native_shop.cc's library that is compiled without type_info: only the symbol of its vtable tells the class.
namespace shop {

struct Bare {
  virtual ~Bare() = default;
  virtual long weight() const { return 1; }
  long room[37] = {};
};

Bare* bare[1000];

}  // namespace shop

extern "C" __attribute__((visibility("default"))) long make_bare(long count) {
  for (long i = 0; i < count; ++i) shop::bare[i] = new shop::Bare;
  return sizeof(shop::Bare);
}
