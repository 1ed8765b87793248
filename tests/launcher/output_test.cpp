// Cutting streams into lines, and writing them to a descriptor that may be slow or broken.
#include "launcher/output.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "tests/launcher/temporary_folder.h"

namespace ddp::launcher {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::SizeIs;

/// A sink into a pipe, and what came out of it.
class PipeSink {
 public:
  PipeSink() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) throw std::runtime_error("pipe2");
    read_ = FileDescriptor(ends[0]);
    write_ = FileDescriptor(ends[1]);
    sink = std::make_unique<OutputSink>(write_.get());
  }
  /// Everything that was pushed.
  std::string drain() {
    do {
      sink->write_some();
      read_some();
    } while (!sink->empty());
    return text_;
  }
  std::string read_some() {
    std::array<char, 65536> buffer{};
    const ssize_t n = ::read(read_.get(), buffer.data(), buffer.size());
    const std::string piece(buffer.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
    text_ += piece;
    return piece;
  }
  void close_reader() { read_.reset(); }

  std::unique_ptr<OutputSink> sink;

 private:
  FileDescriptor read_, write_;
  std::string text_;
};

class Relay : public ::testing::Test {
 protected:
  PipeSink pipe_;
  LineRelay relay_{"[3] ", *pipe_.sink, {}};
};

TEST_F(Relay, PutsTheRankInFrontOfEachLine) {
  relay_.feed("one\ntwo\n\nthree\n");
  EXPECT_EQ(pipe_.drain(), "[3] one\n[3] two\n[3] \n[3] three\n");
}

TEST_F(Relay, WaitsForTheRestOfALine) {
  relay_.feed("on");
  EXPECT_EQ(pipe_.drain(), "");
  relay_.feed("e\ntw");
  EXPECT_EQ(pipe_.drain(), "[3] one\n");
  relay_.finish();
  EXPECT_EQ(pipe_.drain(), "[3] one\n[3] tw\n");
}

TEST_F(Relay, TakesALineByteByByte) {
  const std::string line(10000, 'x');
  for (const char c : line + "\n") relay_.feed({&c, 1});
  EXPECT_EQ(pipe_.drain(), "[3] " + line + "\n");
}

TEST_F(Relay, EndsTheLastLineThatHasNoNewline) {
  relay_.feed("the end");
  relay_.finish();
  relay_.finish();
  EXPECT_EQ(pipe_.drain(), "[3] the end\n");
}

TEST_F(Relay, PassesNulBytesAndWhateverElse) {
  const std::string bytes("a\0b\xff\x1b[1m\n", 9);
  relay_.feed(bytes);
  EXPECT_EQ(pipe_.drain(), "[3] " + bytes);
}

TEST_F(Relay, ShowsProgressBarsAsTheyAdvance) {
  relay_.feed("10%\r20%\r");
  EXPECT_EQ(pipe_.drain(), "[3] 10%\r");
  relay_.feed("30%\r\n");
  EXPECT_EQ(pipe_.drain(), "[3] 10%\r[3] 20%\r[3] 30%\r\n");
}

TEST_F(Relay, LeavesNoProgressBarForTheNextLineToOverwrite) {
  relay_.feed("99%\r");
  relay_.finish();
  EXPECT_EQ(pipe_.drain(), "[3] 99%\r\n");
}

TEST_F(Relay, KeepsACarriageReturnAndNewlineInOnePiece) {
  relay_.feed("dos\r");
  relay_.feed("\nnext\r\n");
  EXPECT_EQ(pipe_.drain(), "[3] dos\r\n[3] next\r\n");
}

TEST_F(Relay, CutsEndlessLinesBetweenCharacters) {
  std::string text;
  while (text.size() < 200'000) text += "\xe2\x82\xac";  // the euro sign
  relay_.feed(text);
  relay_.finish();
  std::string joined;
  std::istringstream lines(pipe_.drain());
  int pieces = 0;
  for (std::string line; std::getline(lines, line); ++pieces) {
    EXPECT_EQ(line.substr(0, 4), "[3] ");
    EXPECT_LE(line.size(), 64u * 1024 + 4);
    EXPECT_EQ((line.size() - 4) % 3, 0u) << "a character was cut in two";
    joined += line.substr(4);
  }
  EXPECT_EQ(pieces, 4);
  EXPECT_EQ(joined, text);
}

TEST_F(Relay, CutsBinaryRubbishToo) {
  relay_.feed(std::string(150'000, '\x80'));
  relay_.finish();
  EXPECT_THAT(pipe_.drain(), SizeIs(150'000 + 3 * 5));
}

TEST_F(Relay, RemembersTheLastTenLinesThatSaySomething) {
  for (int i = 0; i < 20; ++i) relay_.feed("line " + std::to_string(i) + "\n\n");
  relay_.feed(std::string(1000, 'x') + "\n");
  relay_.feed("half");
  relay_.finish();
  ASSERT_THAT(relay_.tail(), SizeIs(10));
  EXPECT_EQ(relay_.tail().front(), "line 12");
  EXPECT_THAT(relay_.tail()[8], SizeIs(500));
  EXPECT_EQ(relay_.tail().back(), "half");
  (void)pipe_.drain();
}

TEST_F(Relay, KeepsLinesOfTwoWorkersApart) {
  LineRelay other("[4] ", *pipe_.sink, {});
  relay_.feed("aa");
  other.feed("bb");
  relay_.feed("aa\n");
  other.feed("bb\n");
  EXPECT_EQ(pipe_.drain(), "[3] aaaa\n[4] bbbb\n");
}

TEST(RelayToALog, WritesTheBytesAsTheyCame) {
  const testing::TemporaryFolder folder;
  PipeSink pipe;
  const std::string path = folder.path() + "/log";
  LineRelay relay("[0] ", *pipe.sink,
                  FileDescriptor(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)));
  relay.feed("a\r\nhal");
  relay.feed(std::string("f\0", 2));
  relay.finish();
  (void)pipe.drain();
  EXPECT_EQ(folder.read("log"), std::string("a\r\nhalf\0", 8));
}

TEST(RelayToALog, SaysThatTheDiskIsFullAndGoesOn) {
  PipeSink pipe;
  LineRelay relay("[0] ", *pipe.sink, FileDescriptor(::open("/dev/full", O_WRONLY | O_CLOEXEC)), "rank 0");
  relay.feed("one\n");
  relay.feed("two\n");
  const std::string text = pipe.drain();
  EXPECT_THAT(text, HasSubstr("log file of rank 0 cannot be written"));
  EXPECT_THAT(text, EndsWith("[0] one\n[0] two\n"));
}

TEST(OutputSink, EndsItsPiecesWithLines) {
  PipeSink pipe;
  const std::string line = std::string(99, 'x') + "\n";
  for (int i = 0; i < 100; ++i) pipe.sink->push(line);
  pipe.sink->write_some();
  const std::string first = pipe.read_some();
  EXPECT_THAT(first, SizeIs(4000));
  EXPECT_THAT(pipe.drain(), SizeIs(10'000));
  EXPECT_EQ(pipe.sink->written(), 10'000u);
}

TEST(OutputSink, IsFullWhenNobodyReads) {
  PipeSink pipe;
  EXPECT_FALSE(pipe.sink->full());
  pipe.sink->push(std::string(1 << 20, 'x'));
  EXPECT_TRUE(pipe.sink->full());
  EXPECT_THAT(pipe.drain(), SizeIs(1 << 20));
  EXPECT_FALSE(pipe.sink->full());
}

TEST(OutputSink, DropsWhatCannotBeWrittenAndSaysWhy) {
  ::signal(SIGPIPE, SIG_IGN);
  PipeSink pipe;
  pipe.close_reader();
  pipe.sink->push("lost\n");
  pipe.sink->write_some();
  EXPECT_EQ(pipe.sink->error(), EPIPE);
  EXPECT_TRUE(pipe.sink->empty());
  pipe.sink->push("also lost\n");
  EXPECT_TRUE(pipe.sink->empty());

  const FileDescriptor full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  OutputSink disk(full.get());
  disk.push("x");
  disk.write_some();
  EXPECT_EQ(disk.error(), ENOSPC);
}

}  // namespace
}  // namespace ddp::launcher
