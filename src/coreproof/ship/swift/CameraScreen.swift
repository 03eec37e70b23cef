// CameraScreen: live predictions from the camera, each frame cut and scaled as in the verification.

import AVFoundation
import CoreImage
import SwiftUI

struct CameraScreen: View {
    let plan: Plan
    @StateObject private var camera = Camera()
    @Environment(\.scenePhase) private var phase

    var body: some View {
        VStack(spacing: 16) {
            SeenPicture(image: camera.seen)
            if let answer = camera.answer { TopClasses(plan: plan, answer: answer) }
            if let problem = camera.problem { Message(title: "No camera", text: problem) }
        }
        .padding()
        .task { await camera.start(plan) }
        .onDisappear { camera.stop() }
        .onChange(of: phase) { value in
            if value == .active { camera.resume() } else { camera.stop() }
        }
    }
}

@MainActor
final class Camera: NSObject, ObservableObject {
    @Published var seen: UIImage?
    @Published var answer: Answer?
    @Published var problem: String?

    private let session = AVCaptureSession()
    private let queue = DispatchQueue(label: "camera")
    private var frames: Frames?

    func start(_ plan: Plan) async {
        guard frames == nil else { return resume() }
        guard await AVCaptureDevice.requestAccess(for: .video) else {
            problem = "Allow the camera for this app in Settings."
            return
        }
        guard let device = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: .back),
              let input = try? AVCaptureDeviceInput(device: device), session.canAddInput(input)
        else {
            problem = "This device has no camera that the app can use."
            return
        }
        do {
            let predictor = try await Predictor(plan: plan, processor: .neuralEngine)
            let frames = Frames(plan: plan, predictor: predictor) { [weak self] image, answer in
                Task { @MainActor in
                    self?.seen = image
                    self?.answer = answer
                }
            }
            let output = AVCaptureVideoDataOutput()
            output.videoSettings = [kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA]
            output.alwaysDiscardsLateVideoFrames = true
            output.setSampleBufferDelegate(frames, queue: queue)
            session.beginConfiguration()
            session.sessionPreset = .vga640x480
            session.addInput(input)
            if session.canAddOutput(output) { session.addOutput(output) }
            session.commitConfiguration()
            self.frames = frames
            resume()
        } catch {
            problem = error.localizedDescription
        }
    }

    func resume() {
        guard frames != nil else { return }
        queue.async { [session] in if !session.isRunning { session.startRunning() } }
    }

    func stop() {
        queue.async { [session] in if session.isRunning { session.stopRunning() } }
    }
}

/// Frames are predicted one at a time; what comes in the meantime is dropped.
private final class Frames: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate {
    private let plan: Plan
    private let predictor: Predictor
    private let report: (UIImage?, Answer) -> Void
    private let context = CIContext(options: [.workingColorSpace: NSNull()])
    private var busy = false
    private let lock = NSLock()

    init(plan: Plan, predictor: Predictor, report: @escaping (UIImage?, Answer) -> Void) {
        self.plan = plan
        self.predictor = predictor
        self.report = report
    }

    func captureOutput(_ output: AVCaptureOutput, didOutput buffer: CMSampleBuffer, from connection: AVCaptureConnection) {
        guard begin(), let pixels = CMSampleBufferGetImageBuffer(buffer) else { return }
        let image = CIImage(cvPixelBuffer: pixels)
        guard let frame = context.createCGImage(image, from: image.extent),
              // the sensor lies on its side when the phone stands upright
              let raster = try? Picture.raster(frame, orientation: .right)
        else { return end() }
        let seen = Picture.fit(raster, plan.feeding)
        Task {
            if let answer = try? await predictor.predict(seen) { report(Picture.image(seen), answer) }
            end()
        }
    }

    private func begin() -> Bool {
        lock.lock()
        defer { lock.unlock() }
        if busy { return false }
        busy = true
        return true
    }

    private func end() {
        lock.lock()
        busy = false
        lock.unlock()
    }
}
