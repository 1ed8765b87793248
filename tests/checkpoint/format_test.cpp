#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include <ddp/error.h>

#include "checkpoint/format/crc32c.h"
#include "checkpoint/format/json.h"
#include "checkpoint/format/manifest.h"
#include "checkpoint/format/safetensors.h"
#include "checkpoint/format/sha256.h"

namespace ddp::checkpoint {
namespace {
using testing::HasSubstr;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(Crc32c, GivesThePublishedValues) {
  // RFC 3720, B.4.
  std::string ascending(32, '\0');
  for (std::size_t i = 0; i < ascending.size(); ++i) ascending[i] = static_cast<char>(i);
  EXPECT_EQ(crc32c(std::string_view("123456789")), 0xe3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  EXPECT_EQ(crc32c(ascending), 0x46dd794eU);
  EXPECT_EQ(crc32c(std::string_view()), 0U);
}

TEST(Crc32c, TheInstructionAndTheTableAgreeForAllLengthsAndAlignments) {
  if (!crc32c_has_hardware()) GTEST_SKIP() << "skipped: this processor has no CRC-32C instruction";
  std::mt19937_64 random(1);
  std::string data(300, '\0');
  for (auto& byte : data) byte = static_cast<char>(random());
  for (std::size_t offset = 0; offset < 9; ++offset)
    for (std::size_t length = 0; length < 200; ++length) {
      const auto piece = bytes_of(data).subspan(offset, length);
      ASSERT_EQ(crc32c_hardware(piece, 7), crc32c_table(piece, 7)) << offset << " " << length;
    }
}

TEST(Crc32c, CanBeContinuedFromPieceToPiece) {
  const std::string text = "the quick brown fox jumps over the lazy dog";
  for (std::size_t cut = 0; cut <= text.size(); ++cut)
    EXPECT_EQ(crc32c(bytes_of(text).subspan(cut), crc32c(bytes_of(text).first(cut))), crc32c(text));
}

TEST(Crc32c, TextGoesThereAndBack) {
  std::uint32_t crc = 0;
  EXPECT_TRUE(parse_crc(crc_text(0x00ab12f0), crc));
  EXPECT_EQ(crc, 0x00ab12f0U);
  for (const char* bad : {"", "123", "0123456g", "ABCDEF01", "123456789"})
    EXPECT_FALSE(parse_crc(bad, crc)) << bad;
}

TEST(Sha256, GivesThePublishedValue) {
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

std::vector<TensorInfo> all_types() {
  std::vector<TensorInfo> tensors;
  for (int type = 0; type <= static_cast<int>(ElementType::kC64); ++type)
    tensors.push_back({"t" + std::to_string(type), static_cast<ElementType>(type), {2, 3}});
  tensors.push_back({"empty", ElementType::kF32, {0, 5}});
  tensors.push_back({"scalar", ElementType::kF64, {}});
  return tensors;
}

std::uint64_t data_bytes(const std::vector<TensorInfo>& tensors) {
  std::uint64_t bytes = 0;
  for (const auto& tensor : tensors) bytes += byte_count(tensor).value();
  return bytes;
}

TEST(Safetensors, EveryElementTypeAndEmptyTensorsSurviveARoundTrip) {
  const auto tensors = all_types();
  const std::string header = make_safetensors_header(tensors, {{"format", "pt"}});
  EXPECT_EQ(header.size() % 8, 0U);
  const auto length = header_length(header, header.size() + data_bytes(tensors), "file");
  const auto parsed = parse_safetensors_header(header.substr(8, length), data_bytes(tensors), "file");
  EXPECT_EQ(parsed.metadata.at("format"), "pt");
  ASSERT_EQ(parsed.tensors.size(), tensors.size());
  std::map<std::string, TensorInfo> by_name;
  for (const auto& tensor : parsed.tensors) by_name[tensor.info.name] = tensor.info;
  for (const auto& tensor : tensors) EXPECT_EQ(by_name[tensor.name], tensor);
}

TEST(Safetensors, ElementTypesHaveTheNamesOfTheFormat) {
  for (const auto& tensor : all_types()) EXPECT_EQ(parse_element_type(to_string(tensor.type)), tensor.type);
  EXPECT_FALSE(parse_element_type("f32"));
  EXPECT_FALSE(parse_element_type(""));
}

TEST(Safetensors, TwoTensorsOfOneNameAreRefused) {
  const std::vector<TensorInfo> tensors{{"a", ElementType::kU8, {1}}, {"a", ElementType::kU8, {1}}};
  EXPECT_THROW((void)make_safetensors_header(tensors, {}), ConfigError);
}

struct Hostile {
  const char* json;
  std::uint64_t data;
  const char* complaint;
};

class HostileHeader : public testing::TestWithParam<Hostile> {};

TEST_P(HostileHeader, IsACorruptCheckpoint) {
  try {
    (void)parse_safetensors_header(GetParam().json, GetParam().data, "bad.safetensors");
    FAIL() << "accepted " << GetParam().json;
  } catch (const CorruptCheckpoint& e) {
    EXPECT_THAT(e.what(), HasSubstr("bad.safetensors"));
    EXPECT_THAT(e.what(), HasSubstr(GetParam().complaint));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, HostileHeader,
    testing::Values(
        Hostile{"", 0, "not JSON"}, Hostile{"[]", 0, "not a JSON object"}, Hostile{"{\"a\":3}", 0, "dtype"},
        Hostile{R"({"a":{"dtype":"F33","shape":[],"data_offsets":[0,4]}})", 4, "unknown dtype"},
        Hostile{R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "no whole number"},
        Hostile{R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4, "no whole number"},
        Hostile{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", 8, "does not have 8 bytes"},
        Hostile{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "begin and end"},
        Hostile{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "begin and end"},
        Hostile{R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
                "does not have"},
        Hostile{R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4,
                "does not have"},
        Hostile{
            R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
            6, "begins at byte 2"},
        Hostile{
            R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}})",
            10, "begins at byte 6"},
        Hostile{R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 5, "the file has 5"},
        Hostile{
            R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
            8, "is there twice"},
        Hostile{R"({"__metadata__":{"a":1}})", 0, "no string"},
        Hostile{R"({"__metadata__":[]})", 0, "not an object"}));

TEST(Safetensors, LengthsBeyondTheFileAreCorrupt) {
  EXPECT_THROW((void)header_length("1234567", 7, "f"), CorruptCheckpoint);
  EXPECT_THROW((void)header_length(std::string(8, '\xff'), 1000, "f"), CorruptCheckpoint);
  EXPECT_THROW((void)header_length(std::string("\x09\0\0\0\0\0\0\0", 8), 16, "f"), CorruptCheckpoint);
  EXPECT_EQ(header_length(std::string("\x08\0\0\0\0\0\0\0", 8), 16, "f"), 8U);
}

TEST(Json, DeepNestingIsCorruptAndDoesNotExhaustTheStack) {
  for (const char* open : {"[", "{\"a\":"}) {
    std::string text;
    for (int i = 0; i < 1'000'000; ++i) text += open;
    EXPECT_THROW((void)parse_json(text, "f"), CorruptCheckpoint);
  }
}

Manifest example_manifest() {
  Manifest manifest{.step = 41, .epoch = 3, .nonce = "00ff", .world_size = 2};
  manifest.files = {{"rank-0.safetensors", 100, std::string(64, 'a')},
                    {"rank-1.safetensors", 50, std::string(64, 'b')}};
  manifest.tensors = {{{"model/w", ElementType::kF32, {2, 3}}, ManifestTensor::kEveryRank, 0, 76, 0x1234},
                      {{"sampler/value", ElementType::kU8, {9}}, 1, 1, 41, 0xffffffff}};
  return manifest;
}

TEST(Manifest, SurvivesARoundTrip) {
  const Manifest parsed = parse_manifest(to_json(example_manifest()), "m");
  EXPECT_EQ(to_json(parsed), to_json(example_manifest()));
  EXPECT_EQ(parsed.tensors[1].rank, 1);
  EXPECT_EQ(parsed.tensors[0].rank, ManifestTensor::kEveryRank);
}

TEST(Manifest, WhatPointsElsewhereOrOutOfRangeIsCorrupt) {
  const auto with = [](const std::string& from, const std::string& to) {
    std::string text = to_json(example_manifest());
    const auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  const std::vector<std::pair<std::string, std::string>> changes{
      {"rank-0.safetensors", "../../etc/passwd"},
      {"rank-0.safetensors", "/etc/passwd"},
      {"rank-0.safetensors", ".hidden"},
      {"rank-0.safetensors", "a/b"},
      {"rank-0.safetensors", ""},
      {"rank-0.safetensors", "rank-1.safetensors"},
      {"\"offset\":76", "\"offset\":77"},
      {"\"offset\":76", "\"offset\":-1"},
      {"\"offset\":76", "\"offset\":18446744073709551615"},
      {"\"file\":1", "\"file\":2"},
      {"\"rank\":1", "\"rank\":2"},
      {"\"world_size\":2", "\"world_size\":0"},
      {"[2,3]", "[9223372036854775807,9]"},
      {"\"step\":41", "\"step\":-41"},
      {"\"step\":41", "\"step\":\"41\""},
      {"aaaaaaaa", "aaaaaaaZ"},
      {"ffffffff", "fffffff"},
      {"\"version\":1", "\"version\":2"},
      {"ddp-checkpoint", "something"},
      {"sampler/value", "model/w"},
      {"\"version\":1", "\"version\":1,\"version\":1"}};
  for (const auto& [from, to] : changes)
    EXPECT_THROW((void)parse_manifest(with(from, to), "m"), CorruptCheckpoint) << from << " -> " << to;
}

TEST(Manifest, TensorsCannotClaimMoreBytesThanTheirFileHas) {
  Manifest manifest = example_manifest();
  for (int i = 0; i < 5; ++i)
    manifest.tensors.push_back({{"copy" + std::to_string(i), ElementType::kF32, {2, 3}}, -1, 0, 76, 0});
  EXPECT_THROW((void)parse_manifest(to_json(manifest), "m"), CorruptCheckpoint);
}

/// Replaces, inserts, removes and repeats bytes.
std::string mutate(std::string text, std::mt19937_64& random) {
  constexpr std::string_view kInteresting = "{}[]\",:0-9e.\\\0\xff";
  for (std::uint64_t changes = random() % 4 + 1; changes > 0 && !text.empty(); --changes) {
    const std::size_t at = random() % text.size();
    switch (random() % 5) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text[at] = kInteresting[random() % kInteresting.size()];
        break;
      case 2:
        text.erase(at, random() % 20 + 1);
        break;
      case 3:
        text.insert(at, text.substr(random() % text.size(), random() % 30));
        break;
      default:
        text.resize(at);
        break;
    }
  }
  return text;
}

TEST(Fuzz, MutatedHeadersAndManifestsAreReadOrCorruptAndNothingElse) {
  std::mt19937_64 random(20261123);
  const auto tensors = all_types();
  const std::string header = make_safetensors_header(tensors, {{"format", "pt"}});
  const std::string manifest = to_json(example_manifest());
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    try {
      const std::string bad = mutate(header, random);
      const auto file_bytes = bad.size() + data_bytes(tensors);
      const auto length = header_length(bad.substr(0, 8), file_bytes, "h");
      if (length <= bad.size() - 8)
        (void)parse_safetensors_header(bad.substr(8, length), file_bytes - 8 - length, "h");
      ++accepted;
    } catch (const CorruptCheckpoint&) {
    }
    try {
      (void)parse_manifest(mutate(manifest, random), "m");
      ++accepted;
    } catch (const CorruptCheckpoint&) {
    }
  }
  EXPECT_LT(accepted, 20'000);
}

}  // namespace
}  // namespace ddp::checkpoint
