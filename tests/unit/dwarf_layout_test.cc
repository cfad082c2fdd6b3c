// Compares what DwarfLayout reads with what the compiler itself says: the same declarations are compiled into this test
// and, with debug information of every version, into shared objects read by it. Skipped where there is no C compiler.
#include "coreparse/dwarf_layout.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace heapcore {
namespace {

#define BOTH(...) \
  __VA_ARGS__     \
  constexpr char kDeclarations[] = #__VA_ARGS__;

// As CPython and glibc declare theirs: an underscored tag behind a typedef, a union with anonymous structures in it,
// bit-fields, arrays of one and of none.
BOTH(
    struct _object {
      union {
        long ob_refcnt;
        unsigned ob_split[2];
      };
      struct _type* ob_type;
    };
    typedef struct _object Object; union GcHead {
      struct {
        union GcHead* gc_next;
        union GcHead* gc_prev;
        long gc_refs;
      } gc;
      double alignment;
    };
    typedef union GcHead GcHeadAlias; struct Bits {
      char before;
      unsigned interned : 2;
      unsigned kind : 3;
      unsigned short narrow : 9;
      unsigned long long wide : 40;
      unsigned after_wide : 10;
      volatile const short plain;
    };
    struct Inner {
      short x;
      struct {
        char pad;
        union {
          int deep;
          char bytes[6];
        };
      };
    };
    typedef const struct Inner ConstInner; struct Outer {
      char first;
      struct Inner inner;
      ConstInner qualified;
      int matrix[3][5];
      struct Inner* pointer;
      void (*function)(int);
      double values[7];
      Object base;
      char tail[];
    };
    typedef struct {
      char pad[3];
      short field;
    } NoTag;
    struct _underscored {
      char pad[24];
      int field;
    };)

// Keeps every type in the debug information, which leaves out what is never used; Later is only declared in this file.
constexpr char kUses[] =
    "typedef struct later Later; Later* later_user;"
    "Object* u1; GcHeadAlias* u2; struct Bits* u3; struct Outer* u4; NoTag* u5; struct _underscored* u6;"
    "unsigned long use(void) { return sizeof *u1 + sizeof *u2 + sizeof *u3 + sizeof *u4 + sizeof *u5 + sizeof *u6; }";
constexpr char kLater[] = "struct later { long a; int b; }; struct later the_later;";

constexpr std::string_view kTypes[] = {"Object",      "GcHead", "GcHeadAlias", "Bits",    "Outer", "NoTag",
                                       "underscored", "Later",  "Missing",     "_object", "object"};

class DwarfLayoutTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "dwarf-layout-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    if (std::system("cc --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no C compiler here";
    write("main.c", std::string(kDeclarations) + "\n" + kUses);
    write("later.c", kLater);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path(name)) << text; }

  // Builds a shared object; empty if this compiler does not know the options.
  std::string compile(const std::string& compiler, const std::string& options) const {
    const std::string output = path("lib.so");
    const std::string command = "cd " + folder_.string() + " && " + compiler + " " + options +
                                " -shared -fPIC -Wl,--build-id main.c later.c -o lib.so > log 2>&1";
    return std::system(command.c_str()) == 0 ? output : std::string();
  }

  std::filesystem::path folder_;
};

#define EXPECT_MEMBER(layout, type, member)                                 \
  EXPECT_EQ((layout).field(#type, #member).offset, offsetof(type, member)); \
  EXPECT_EQ((layout).field(#type, #member).width_bytes, sizeof(type::member))

void expect_truth(const DwarfLayout& layout) {
  EXPECT_EQ(layout.size_bytes("Object"), sizeof(Object));
  EXPECT_EQ(layout.size_bytes("object"), sizeof(Object));
  EXPECT_EQ(layout.size_bytes("_object"), sizeof(Object));
  EXPECT_EQ(layout.size_bytes("GcHeadAlias"), sizeof(GcHead));
  EXPECT_EQ(layout.size_bytes("Outer"), sizeof(Outer));
  EXPECT_EQ(layout.size_bytes("Later"), 16U);  // typedef and definition are in different units
  EXPECT_EQ(layout.size_bytes("Missing"), std::nullopt);
  EXPECT_EQ(layout.size_bytes("Bits"), sizeof(Bits));

  EXPECT_MEMBER(layout, Object, ob_refcnt);
  EXPECT_MEMBER(layout, Object, ob_split);
  EXPECT_MEMBER(layout, Object, ob_type);
  EXPECT_MEMBER(layout, Bits, plain);
  EXPECT_MEMBER(layout, Outer, inner);
  EXPECT_MEMBER(layout, Outer, matrix);
  EXPECT_MEMBER(layout, Outer, pointer);
  EXPECT_MEMBER(layout, Outer, function);
  EXPECT_MEMBER(layout, Outer, values);
  EXPECT_MEMBER(layout, NoTag, field);
  EXPECT_EQ(layout.field("underscored", "field"), (Field{24, 4}));
  EXPECT_EQ(layout.field("GcHead", "gc.gc_prev"), (Field{8, 8}));
  EXPECT_EQ(layout.field("GcHeadAlias", "gc.gc_refs"), (Field{16, 8}));
  EXPECT_EQ(layout.field("Later", "b"), (Field{8, 4}));

  constexpr std::uint32_t kDeep = offsetof(Inner, deep);
  EXPECT_EQ(layout.field("Outer", "inner.deep"), (Field{offsetof(Outer, inner) + kDeep, 4}));
  EXPECT_EQ(layout.field("Outer", "qualified.bytes"), (Field{offsetof(Outer, qualified) + kDeep, 6}));
  EXPECT_EQ(layout.field("Outer", "base.ob_type"), (Field{offsetof(Outer, base) + 8, 8}));
  EXPECT_EQ(layout.field("Outer", "tail"), (Field{offsetof(Outer, tail), 1}));

  EXPECT_EQ(layout.field("Outer", "missing|inner.x"), (Field{offsetof(Outer, inner), 2}));
  EXPECT_EQ(layout.field("Outer", "first|inner.x"), (Field{0, 1}));
  for (const char* absent :
       {"", ".", "|", "missing", "inner.", ".inner", "inner.missing", "first.x", "pointer.x", "inner.x.y"}) {
    EXPECT_FALSE(layout.field("Outer", absent).present()) << absent;
  }
  EXPECT_FALSE(layout.field("Missing", "x").present());
}

// Where the psABI puts them: each in a unit of its declared type.
void expect_bit_fields(const DwarfLayout& layout) {
  EXPECT_EQ(layout.field("Bits", "interned"), (Field{0, 4}));  // bits 8 and 9
  EXPECT_EQ(layout.field("Bits", "kind"), (Field{0, 4}));
  EXPECT_EQ(layout.field("Bits", "narrow"), (Field{2, 2}));  // 13 + 9 would cross its unit: moved to bit 16
  EXPECT_EQ(layout.field("Bits", "wide"), (Field{8, 8}));    // 25 + 40 would too
  EXPECT_EQ(layout.field("Bits", "after_wide"), (Field{12, 4}));
}

TEST_F(DwarfLayoutTest, AgreesWithTheCompiler) {
  int compiled = 0;
  for (const std::string compiler : {"gcc", "clang"}) {
    for (const std::string options : {"-gdwarf-2 -gstrict-dwarf", "-gdwarf-3 -gstrict-dwarf", "-gdwarf-4", "-gdwarf-5",
                                      "-gdwarf-5 -O2", "-gdwarf-4 -fdebug-types-section", "-gdwarf-5 -gz"}) {
      SCOPED_TRACE(compiler + " " + options);
      const std::string file = compile(compiler, options);
      if (file.empty()) continue;
      ++compiled;
      const auto layout = DwarfLayout::open(file, kTypes);
      ASSERT_TRUE(layout.ok()) << layout.error().message;
      EXPECT_EQ(layout->build_id().size(), 40U);
      expect_truth(*layout);
      expect_bit_fields(*layout);
    }
  }
  EXPECT_GT(compiled, 0);
}

TEST_F(DwarfLayoutTest, SaysWhyItCannotStart) {
  const std::string stripped = compile("cc", "-g0");
  ASSERT_FALSE(stripped.empty());
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  write("text", "not an ELF file");
  write("empty", "");
  const struct {
    std::string file;
    ErrorCode code;
  } kCases[] = {
      {stripped, ErrorCode::kNotFound},        {path("nothing"), ErrorCode::kNotFound},
      {path("fifo"), ErrorCode::kNotFound},    {folder_.string(), ErrorCode::kNotFound},
      {path("text"), ErrorCode::kUnsupported}, {path("empty"), ErrorCode::kUnsupported},
  };
  for (const auto& [file, code] : kCases) {
    const auto layout = DwarfLayout::open(file, kTypes);
    ASSERT_FALSE(layout.ok()) << file;
    EXPECT_EQ(layout.error().code, code) << file;
    EXPECT_NE(layout.error().message.find(file), std::string::npos);
  }
}

// Whatever is damaged, the reader comes back, and soon.
TEST_F(DwarfLayoutTest, SurvivesDamage) {
  const std::string file = compile("cc", "-gdwarf-5");
  ASSERT_FALSE(file.empty());
  std::ifstream stream(file, std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(stream), {}};
  std::mt19937 random(1);  // the same every time
  for (int round = 0; round < 400; ++round) {
    std::string damaged = whole;
    if (round % 4 == 0) damaged.resize(random() % damaged.size());
    for (unsigned flips = random() % 64; flips > 0 && !damaged.empty(); --flips) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    write("damaged.so", damaged);
    const auto layout = DwarfLayout::open(path("damaged.so"), kTypes);
    if (!layout.ok()) continue;
    for (const std::string_view type : kTypes) {
      layout->size_bytes(type);
      for (const char* member : {"gc.gc_next", "inner.deep", "tail", "matrix", "after_wide", "ob_type", "b"}) {
        layout->field(type, member);
      }
    }
  }
}

}  // namespace
}  // namespace heapcore
