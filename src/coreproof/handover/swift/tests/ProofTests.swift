// ProofTests: the proof as a test: every sample on every processor; device.json is attached to the result.

import XCTest
@testable import AppModule

/// COREPROOF_REQUIRE is the share of samples that has to get the expected class, 1 where nothing is said. xcodebuild hands on
/// what begins with TEST_RUNNER_: TEST_RUNNER_COREPROOF_REQUIRE=0.98 xcodebuild test ...
final class ProofTests: XCTestCase {
    func testTheModelAnswersAsItWasVerified() async throws {
        let plan = try Plan.load(Resources.samples)
        XCTAssertFalse(plan.samples.isEmpty, "there is nothing to prove the model on")
        var results: [ProcessorResult] = []
        for processor in Processor.allCases {
            do {
                results.append(try await plan.examine(on: processor))
            } catch {
                XCTFail("\(processor.rawValue): \(error.localizedDescription)")
            }
        }
        let device = await Export.Device.here
        let attachment = XCTAttachment(data: try Export(plan, results, device).document(), uniformTypeIdentifier: "public.json")
        attachment.name = "device.json"
        attachment.lifetime = .keepAlways
        add(attachment)
        let required = ProcessInfo.processInfo.environment["COREPROOF_REQUIRE"].flatMap(Double.init) ?? 1
        for result in results { check(result, plan.kind, required) }
    }

    func testPhotosAreCutAsInTheVerification() async throws {
        let plan = try Plan.load(Resources.samples)
        guard plan.picture != nil else { throw XCTSkip("the model takes no picture") }
        let predictor = try await Predictor(plan, .cpuOnly)
        for sample in plan.samples {
            guard let cut = try await predictor.cut(sample) else { continue }
            // decoders of JPEG files differ by about 1 of 255, a wrong crop or orientation by tens
            XCTAssertLessThan(cut, 8, "\(sample.name): \(cut) of 255")
        }
    }

    private func check(_ result: ProcessorResult, _ kind: Plan.Kind, _ required: Double) {
        let said = "\(result.processor): \(result.troubles.joined(separator: "; "))"
        if kind == .classifier {
            let share = Double(result.agreeing) / Double(max(result.outcomes.count, 1))
            XCTAssertGreaterThanOrEqual(share, required, said)
        } else {
            XCTAssertTrue(result.troubles.isEmpty, said)
            // whatever the arithmetic: what is off by half of its scale is another answer
            XCTAssertLessThan(result.typical, 0.5, "\(result.processor): off by \(result.typical) of the outputs' scale")
        }
    }
}
